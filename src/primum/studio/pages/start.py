"""The start page: what there is to do, and for an empty studio how to begin."""

from __future__ import annotations

from sqlalchemy import func, select
from starlette.responses import Response

from primum.studio.annotate import KINDS, progress, standing
from primum.studio.tables import Dialogue, Task, Template, Vote
from primum.studio.web import Visit, route


def start(visit: Visit) -> Response:
    """Show the tasks with the person's progress, and where the other rooms stand."""
    tasks = [
        (task, KINDS[task.kind], progress(visit.db, task, visit.person), standing(visit.db, task, visit.person))
        for task in visit.db.scalars(select(Task).order_by(Task.id.desc()).limit(50))
    ]
    counts = {
        name: visit.db.scalar(select(func.count()).select_from(table)) or 0
        for name, table in (("votes", Vote), ("templates", Template), ("dialogues", Dialogue))
    }
    return visit.page("start.html", tasks=tasks, counts=counts, models=visit.studio.talkers.names)


routes = [route("/", start)]
