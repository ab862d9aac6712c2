"""Many studies in one go: what a study is in a heap of files, an answer or a reason for each, tables of them."""
