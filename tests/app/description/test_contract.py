"""Law of generated requests: every answer has a documented status, media type and schema, and none is a fault."""

from pathlib import Path

from schemathesis import GenerationMode

from darkroom.store.database import Database
from tests.app.description.generated import Contract, cancelling
from tests.app.description.tried import serving_examples
from tests.app.keyed import add_key


def test_answers_to_generated_requests_keep_the_contract(tmp_path: Path, database_url: str, database: Database) -> None:
    """The same requests each time. `make soak` sends many more."""
    key, token = add_key(database, "admin", requests_per_minute=2**31 - 1)
    with serving_examples(tmp_path, database_url, token) as service, cancelling(database):
        contract = Contract(service.url, (key.id, token), service.client.get("/openapi.json").json())
        contract.each_operation(1, GenerationMode.POSITIVE)
        contract.each_operation(1, GenerationMode.NEGATIVE)
        contract.follow_links(4, 8)
    assert contract.counts["cases"] >= 120
    assert contract.counts["2xx"] >= 20
    assert contract.counts["4xx"] >= 60
