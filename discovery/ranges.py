"""Types of settings with their allowed range, checked where a file or a flag is read."""

from typing import Annotated

from pydantic import Field

PositiveInt = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeInt = Annotated[int, Field(ge=0)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(gt=0, le=1)]
"""Above 0, up to 1: decays and shares."""

UnitInterval = Annotated[float, Field(ge=0, le=1)]
"""From 0 to 1: discounts and probabilities."""
