"""One training loop for every task. It tells its progress through callbacks and knows no tracker."""
