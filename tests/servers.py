"""A server of PostgreSQL for tests: in a folder of its own, reached by a socket alone, gone with them."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

SETTINGS = {"listen_addresses": "", "unix_socket_permissions": "0777", "max_connections": "50"}
USER = "robot"


def programs() -> Path | None:
    """The folder of initdb and pg_ctl, if PostgreSQL is installed."""
    found = shutil.which("initdb")
    installed = [Path(found)] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return installed[-1].resolve().parent if installed else None


class Server:
    """Of a new cluster: what must run. PostgreSQL refuses to run as root, so that root has another do it."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ami-postgres-"))  # short: a socket's path has 107 characters
        self._user = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
        if self._user:
            shutil.chown(self.folder, self._user["user"])
        self._do("initdb", "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        rules = self.folder / "data" / "pg_hba.conf"  # the first that fits counts
        rules.write_text(f"local all guest scram-sha-256\n{rules.read_text()}")

    def start(self, fsync: bool = False) -> None:
        settings = SETTINGS | {"fsync": "on" if fsync else "off", "unix_socket_directories": self.folder}
        options = " ".join(f"-c {name}='{value}'" for name, value in settings.items())
        self._do("pg_ctl", "start", "-w", "-l", self.folder / "log", "-o", options)

    def stop(self, mode: str = "fast") -> None:
        """`fast` in order; `immediate` as if it crashed."""
        self._do("pg_ctl", "stop", "-w", "-m", mode)

    def url(self, user: str = USER, database: str = "postgres") -> str:
        return f"postgresql://{user}@/{database}?host={self.folder}"

    def clear(self) -> None:
        """As if nobody had been here."""
        import psycopg

        with psycopg.connect(self.url(), autocommit=True) as db:
            others = "usename = current_user AND pid != pg_backend_pid()"
            db.execute(f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE {others}")
            db.execute("DROP SCHEMA IF EXISTS ami_agent CASCADE")

    def remove(self) -> None:
        self.stop("immediate")
        shutil.rmtree(self.folder)

    def _do(self, program: str, *arguments: object) -> None:
        command = [programs() / program, "-D", self.folder / "data", *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=self.folder, **self._user)
