"""One training loop for every task. It reports progress through callbacks and depends on no experiment tracker."""
