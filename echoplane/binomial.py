"""The exact interval of a share."""


def exact_interval(count: int, of: int, level: float = 0.95) -> tuple[float, float]:
    """Returns the interval that holds the share behind `count` out of `of` with probability of at least `level`
    (Clopper and Pearson 1934, doi:10.1093/biomet/26.4.404)."""
    from scipy.stats import beta  # an edge device, which counts and leaves comparing to others, has no SciPy

    tail = (1 - level) / 2
    low = beta.ppf(tail, count, of - count + 1) if count else 0.0
    high = beta.ppf(1 - tail, count + 1, of - count) if count < of else 1.0
    return float(low), float(high)
