"""What a user should know before a planned training starts, in plain words."""

from darkroom.model.planning.plan import Plan, minutes_told
from darkroom.model.training.curve_point import duration
from darkroom.model.training.forecast import recognisable_images
from darkroom.model.words import named

FEW_PICTURES = 20
MANY_PASSES = 2000.0
UNEVEN = 20
"""Ratio of the largest class to the smallest from which the data set is uneven."""


def cautions(plan: Plan) -> list[str]:
    """Return the warnings about a plan; nothing for a good one."""
    found, facts = [], plan.facts
    seen, needed = plan.recipe.training.total_images, recognisable_images(plan.recipe.model)
    if seen < needed:
        longer = duration(60.0 * plan.minutes * needed / seen)
        found.append(
            f"{minutes_told(plan.minutes)} on this machine will give blurs: {seen:,} images are seen. About {longer} "
            "would give recognisable pictures"
        )
    if plan.passes > MANY_PASSES:
        found.append(
            f"each picture is seen {plan.passes:,.0f} times: the model will copy some. More pictures or less time help"
        )
    counts = sorted((count, name) for count, name in zip(facts.class_counts, facts.class_names, strict=True) if count)
    few = [f"{name} ({count})" for count, name in counts if count < FEW_PICTURES]
    if few:
        found.append(f"these classes have few pictures, which the model may copy: {named(few)}")
    (fewest, rarest), (most, commonest) = counts[0], counts[-1]
    if most >= UNEVEN * fewest:
        found.append(f"{commonest} has {most:,} pictures and {rarest} {fewest:,}: the small classes learn more slowly")
    repeats = facts.images - facts.distinct
    if repeats > facts.images // 10:
        found.append(f"{repeats:,} of {facts.images:,} pictures are exact repeats")
    return found
