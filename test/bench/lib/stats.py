"""The few statistics that are needed."""

import statistics

median = statistics.median


def trimmed_mean(values, top=0.01):
    """The mean without the highest part: a busy machine makes a few values as large as it likes, none of them smaller."""
    ordered = sorted(values)
    return statistics.fmean(ordered[: max(1, int(len(ordered) * (1 - top)))])


def percentile(values, fraction):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * fraction))]


def p10(values):
    """Close to what a quiet machine would give."""
    return percentile(values, 0.1)
