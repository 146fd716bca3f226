"""The parameters of every list: where a page begins and how long it is."""

from typing import Annotated

from fastapi import Query

from darkroom.app.http.digits import DIGITS

LARGEST_ID = 2**63 - 1
"""PostgreSQL's largest bigint."""

BeforeId = Annotated[int | None, DIGITS, Query(ge=1, le=LARGEST_ID, description="the last id of the previous page")]
Limit = Annotated[int, DIGITS, Query(ge=1, le=200)]
