"""Sets and removes aliases, each with its audit event in the same transaction.

Nothing else writes `ModelAlias`.
"""

from sqlalchemy.orm import Session

from darkroom.store.audit_repository import Actor, record
from darkroom.store.model_repository import lock_model, resolve_kept, version_not_found
from darkroom.store.tables import Checkpoint, Model, ModelAlias


def set_alias(session: Session, actor: Actor, name: str, alias: str, version: str | int) -> Checkpoint:
    """Point `alias` of model `name` at a version (number, digest or another alias) and return that checkpoint.

    Raises ModelNotFound, VersionNotFound, VersionCollected; sqlalchemy.exc.IntegrityError for an alias that is no valid
    name.
    """
    model = lock_model(session, name)
    checkpoint = resolve_kept(session, name, version)
    move_alias(session, actor, model, alias, checkpoint)
    return checkpoint


def remove_alias(session: Session, actor: Actor, name: str, alias: str) -> None:
    """Remove an alias. The version that it pointed at stays. Raises ModelNotFound, VersionNotFound."""
    move_alias(session, actor, lock_model(session, name), alias, None)


def move_alias(session: Session, actor: Actor, model: Model, alias: str, to: Checkpoint | None) -> None:
    """Point an alias at a checkpoint of its model, or remove it (None), and record who did so.

    The caller holds the model's lock (`lock_model`). Raises VersionNotFound when there is no such alias to remove.
    """
    row = session.get(ModelAlias, (model.id, alias), populate_existing=True)
    facts = version_facts(to) if to else {}
    facts["from"] = version_facts(session.get_one(Checkpoint, row.checkpoint_id)) if row else None
    if to is None:
        if row is None:
            raise version_not_found(session, model, alias)
        session.delete(row)
    elif row is None:
        session.add(ModelAlias(model_id=model.id, alias=alias, checkpoint_id=to.id))
    else:
        row.checkpoint_id = to.id
    record(session, actor, "alias.moved" if to else "alias.deleted", f"models/{model.name}/alias/{alias}", facts)


def version_facts(checkpoint: Checkpoint) -> dict[str, object]:
    """The facts of a model version for an event."""
    return {"version": checkpoint.version, "digest": checkpoint.digest}
