"""Reading and decoding of files in processes of their own, which are limited and can be killed."""
