"""Writes an example of each schema of an answer: `python -m tests.app.description.record`. A test checks them."""

import json
from pathlib import Path
from typing import Any

from tests.app.description.tried import every_answer, private_database, serving_examples

EXAMPLES = Path(__file__).parents[3] / "app" / "description" / "examples.json"
LONGEST_TEXT, LONGEST_LIST = 120, 3


def shortened(value: Any) -> Any:
    """Return an answer that is short enough to read. Lists keep their first entries."""
    if isinstance(value, dict):
        return {name: shortened(one) for name, one in value.items()}
    if isinstance(value, list):
        return [shortened(one) for one in value[:LONGEST_LIST]]
    if isinstance(value, str) and len(value) > LONGEST_TEXT:
        return f"{value[:LONGEST_TEXT]}..."
    return value


def main() -> None:
    """Try every operation out on a service of its own, and keep the first answer of each schema."""
    found: dict[str, Any] = {}
    with private_database() as (folder, database, url), serving_examples(folder, url) as service:
        document = service.client.get("/openapi.json").json()
        for name, operation, answer in every_answer(service, database, document):
            assert answer.is_success, (name, answer.text)
            content = operation["responses"][str(answer.status_code)].get("content", {})
            schema = content.get("application/json", {}).get("schema", {}).get("$ref", "").rpartition("/")[2]
            if schema and answer.headers["content-type"] == "application/json":
                found.setdefault(schema, shortened(answer.json()))
    EXAMPLES.write_text(json.dumps(found, indent=1, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
