"""What a process says at `/metrics`, read without a Prometheus."""

__all__ = ["total"]


def total(text: str, name: str, *labels: str) -> float:
    """Return the sum of a metric's series.

    Args:
        text: All that was said.
        name: What their lines begin with.
        labels: What each of the lines has, such as `state="live"`.
    """
    return sum(
        float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if line.startswith(name) and all(label in line for label in labels)
    )
