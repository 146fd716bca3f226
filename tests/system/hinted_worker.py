"""A worker that learns of jobs by hints alone, and whose work is next to nothing: for
`celery --app tests.system.hinted_worker worker`. A hint that is lost then is a job that waits for ever."""

import threading

from tests.worker.light_work import FINISHES
from worker import celery_app
from worker.supervisor import Supervisor

celery_app._looking = threading.Thread(target=lambda: None)
celery_app._supervisor = Supervisor(
    celery_app.settings, celery_app._database, celery_app._stopping.is_set, celery_app._device, FINISHES
)
app = celery_app.app
