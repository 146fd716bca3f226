"""Sends many generated requests to a service of its own: `python -m tests.app.description.soak [--cases 20000]`.

Ends with a traceback at the first answer that breaks the contract. A part of `make soak`.
"""

import argparse
import logging
from collections.abc import Sequence

from schemathesis import GenerationMode

from tests.app.description.generated import Contract, cancelling
from tests.app.description.tried import every_answer, private_database, serving_examples
from tests.app.keyed import add_key

EXAMPLES, RUNS, STEPS = 4, 15, 15
"""Of one round: cases of each operation and mode; runs along links, and the steps of one."""


def main(argv: Sequence[str] | None = None) -> None:
    """Send rounds of cases until there are enough."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=20_000, help="how many requests to send")
    wanted = parser.parse_args(argv).cases
    logging.disable(logging.WARNING)
    with private_database() as (folder, database, url), serving_examples(folder, url, request_rows=16) as service:
        document = service.client.get("/openapi.json").json()
        for _ in every_answer(service, database, document):
            pass  # leaves things to ask for
        key, token = add_key(database, "admin", name="soak", requests_per_minute=2**31 - 1)
        contract = Contract(service.url, (key.id, token), document)
        with cancelling(database):
            number = 0
            while contract.counts["cases"] < wanted:
                for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                    contract.each_operation(EXAMPLES, mode, number)
                contract.follow_links(RUNS, STEPS, number)
                number += 1
                print(f"round {number}: {dict(sorted(contract.counts.items()))}", flush=True)


if __name__ == "__main__":
    main()
