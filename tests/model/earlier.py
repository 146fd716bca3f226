"""The older form of recipes, weights files and training states, with the image's form in the network."""

from typing import Any


def earlier(data: Any) -> Any:
    """Return plain data with the image's form moved from every model into its `unet`."""
    if not isinstance(data, dict):
        return data
    found = {name: earlier(value) for name, value in data.items()}
    if "unet" in found and "image_size" in found:
        found["unet"] |= {name: found.pop(name) for name in ("image_channels", "image_size")}
    return found
