"""Where PostgreSQL and Redis are and how to get in: one reading of the environment for API, workers and commands."""

from pathlib import Path
from typing import Self
from urllib.parse import quote, urlsplit

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class OperatorSettings(BaseSettings):
    """DATABASE_URL and REDIS_URL, whose passwords may lie in files: whoever may inspect a container sees its
    environment, and every child inherits it. A password in the URL itself goes before the file's.
    """

    # an error must not repeat what it was given: that may hold a password
    model_config = SettingsConfigDict(
        env_prefix="DARKROOM_", extra="ignore", populate_by_name=True, hide_input_in_errors=True
    )

    database_url: str | None = Field(None, validation_alias="DATABASE_URL", description="PostgreSQL")
    database_password_file: Path | None = Field(None, validation_alias="DATABASE_PASSWORD_FILE")
    redis_url: str | None = Field(None, validation_alias="REDIS_URL", description="the broker that hints go through")
    redis_password_file: Path | None = Field(None, validation_alias="REDIS_PASSWORD_FILE")

    @model_validator(mode="after")
    def _read_passwords(self) -> Self:
        if self.database_url and self.database_password_file:
            self.database_url = _with_password(self.database_url, self.database_password_file)
        if self.redis_url and self.redis_password_file:
            self.redis_url = _with_password(self.redis_url, self.redis_password_file)
        return self


def _with_password(url: str, file: Path) -> str:
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    if ":" in user:
        return url
    try:
        password = file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ValueError(f"{file}: {error.strerror}") from error
    if not password:
        raise ValueError(f"{file} is empty")
    return parts._replace(netloc=f"{user}:{quote(password, safe='')}@{host}").geturl()
