"""Numbers of things in messages."""


def several(number: float, thing: str) -> str:
    """Return a number and its thing for people: "1 image", "2,000 images", "3 classes"."""
    ending = "" if number == 1 else "es" if thing.endswith("s") else "s"
    return f"{number:,} {thing}{ending}"
