"""The addresses and passwords of PostgreSQL and Redis, and where artifacts lie: every process reads them in one way."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import quote, urlsplit

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from darkroom.model.user_error import UserError, fault_text
from darkroom.store.database import Database, Pool, parse_url
from darkroom.store.places import check_url
from darkroom.store.roles import AUTOSCALER, SERVICE

Kind = TypeVar("Kind", bound=BaseSettings)

_NOT_SET = {
    "DATABASE_URL": "name the service's PostgreSQL in it (postgresql://USER@HOST/DATABASE)",
    "REDIS_URL": "name the service's Redis in it (redis://HOST:6379/0)",
}


class SettingsError(UserError):
    """Environment variables with unusable values; the message names each."""


class OperatorSettings(BaseSettings):
    """DATABASE_URL and REDIS_URL, with passwords that may lie in files, and where artifacts lie.

    Everybody who may inspect a container sees its environment, and every child process inherits it. A password in the
    URL takes precedence over the file.
    """

    # an error must not repeat its input, which may hold a password
    model_config = SettingsConfigDict(
        env_prefix="DARKROOM_", extra="ignore", populate_by_name=True, hide_input_in_errors=True
    )

    database_url: str | None = Field(
        None,
        validation_alias="DATABASE_URL",
        description="PostgreSQL, as postgresql://USER@HOST/DATABASE; ?sslmode=verify-full&sslrootcert=FILE checks its "
        "certificate",
    )
    database_password_file: Path | None = Field(
        None,
        validation_alias="DATABASE_PASSWORD_FILE",
        description="file with the password for DATABASE_URL, where that has none",
    )
    database_pooler: bool = Field(
        False,
        validation_alias="DATABASE_POOLER",
        description="DATABASE_URL leads to a pooler in transaction mode (PgBouncer): prepare no statements",
    )
    connection_wait_seconds: float = Field(
        30.0, gt=0.0, description="longest wait for a free connection of the process to PostgreSQL"
    )
    redis_url: str | None = Field(
        None,
        validation_alias="REDIS_URL",
        description="Redis, as redis://HOST:6379/0, or rediss:// for TLS with a checked certificate; "
        "?ssl_ca_certs=FILE names the authority to trust",
    )
    redis_password_file: Path | None = Field(
        None,
        validation_alias="REDIS_PASSWORD_FILE",
        description="file with the password for REDIS_URL, where that has none",
    )
    artifacts_url: str | None = Field(
        None,
        description="where weights, states, data sets and results are stored: a folder that all services share, or "
        "s3://BUCKET/PREFIX; not set: the database",
    )

    @field_validator("artifacts_url")
    @classmethod
    def _usable(cls, value: str | None) -> str | None:
        if value:
            check_url(value)
        return value or None

    def database(self, name: str, pool: Pool) -> Database:
        """The database of DATABASE_URL, which must be set. name: of the kind of process."""
        return Database(
            str(self.database_url),
            replace(pool, wait_seconds=self.connection_wait_seconds),
            name=f"darkroom {name}",
            artifacts_url=self.artifacts_url,
            prepared=not self.database_pooler,
        )

    @model_validator(mode="after")
    def _read_passwords(self) -> Self:
        if self.database_url and self.database_password_file:
            self.database_url = _with_password(self.database_url, self.database_password_file)
        if self.redis_url and self.redis_password_file:
            self.redis_url = _with_password(self.redis_url, self.redis_password_file)
        if self.database_url:
            parse_url(self.database_url)
        if self.redis_url:
            _check_redis_url(self.redis_url)
        return self


class MigrationSettings(OperatorSettings):
    """The settings of `darkroom migrate`: files with the passwords of the roles that it makes (`store/roles.py`)."""

    service_password_file: Path | None = Field(
        None, description="file with the password of the role darkroom_service; `darkroom migrate` then makes the role"
    )
    autoscaler_password_file: Path | None = Field(
        None, description="file with the password of the role darkroom_autoscaler; it makes this role, too"
    )

    def passwords(self) -> dict[str, str]:
        """Return the passwords by role. Raises SettingsError for a file that is missing or empty."""
        files = {SERVICE: self.service_password_file, AUTOSCALER: self.autoscaler_password_file}
        try:
            return {role: _read_password(file) for role, file in files.items() if file is not None}
        except ValueError as error:
            raise SettingsError(str(error)) from error


def read_settings(kind: type[Kind]) -> Kind:
    """Read settings of this kind from the environment. Raises SettingsError."""
    try:
        return kind()
    except ValidationError as error:
        prefix = str(kind.model_config.get("env_prefix", ""))
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        raise SettingsError("; ".join(_sentence(fault, prefix) for fault in faults)) from error


def _sentence(fault: Any, prefix: str) -> str:
    says = fault_text(fault)
    if not fault["loc"]:  # the validator above names the variable or the file
        return str(says)
    name = str(fault["loc"][0])
    if name in _NOT_SET:
        return f"{name} is not set: {_NOT_SET[name]}, or start everything on this machine with `make up`"
    variable = name if name.isupper() else f"{prefix}{name.upper()}"  # some have a name of their own
    return f"the environment variable {variable} cannot be used: {says[0].lower()}{says[1:]}"


def _check_redis_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("redis", "rediss") and parts.hostname is not None and parts.port != 0
    except ValueError:  # a port that is no number, or a bracket without its end
        good = False
    if not good:  # do not repeat the URL, which may hold a password
        raise ValueError("REDIS_URL is not a valid URL: write redis://HOST:PORT/NUMBER, or rediss:// for TLS")


def _with_password(url: str, file: Path) -> str:
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    if ":" in user:
        return url
    password = _read_password(file)
    return parts._replace(netloc=f"{user}:{quote(password, safe='')}@{host}").geturl()


def _read_password(file: Path) -> str:
    """Return the password that the file holds. Raises ValueError."""
    try:
        password = file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ValueError(f"{file}: {error.strerror}") from error
    if not password:
        raise ValueError(f"{file} is empty")
    return password
