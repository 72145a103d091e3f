"""A directory of its own: Debian's slapd as a process on loopback, with a few people in it."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ldap3 import NONE, Connection, Server
from process import free_port

from outlast.manager.config import make_certificate
from outlast.manager.outside import Ldap, Rule

SLAPD = shutil.which("slapd", path="/usr/sbin:/usr/bin:/usr/local/sbin")
ROOT = "cn=root,dc=corp,dc=example"
READER, READER_WORD = "cn=reader,dc=corp,dc=example", "reads, but not much"
WORD = "correct horse battery"
RULES = (Rule(group="VM-Operators", role="operator"), Rule(group="bosses", role="admin"))
CONFIG = """
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
include /etc/ldap/schema/nis.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile {root}/pid
TLSCertificateFile {root}/tls/cert.pem
TLSCertificateKeyFile {root}/tls/cert.key
security simple_bind=128
database mdb
suffix "dc=corp,dc=example"
rootdn "cn=root,dc=corp,dc=example"
rootpw root
directory {root}/db
access to attrs=userPassword by anonymous auth by * none
access to * by users read by * none
"""
PERSON = """
dn: uid={uid},ou={ou},dc=corp,dc=example
objectClass: inetOrgPerson
uid: {uid}
cn: {cn}
sn: {uid}
userPassword: {word}
"""
TREE = """dn: dc=corp,dc=example
objectClass: dcObject
objectClass: organization
dc: corp
o: Corp

dn: ou=people,dc=corp,dc=example
objectClass: organizationalUnit
ou: people

dn: ou=more (of them),dc=corp,dc=example
objectClass: organizationalUnit
ou: more (of them)

dn: cn=reader,dc=corp,dc=example
objectClass: organizationalRole
objectClass: simpleSecurityObject
cn: reader
userPassword: {reader}
{people}
dn: cn=vm-operators,dc=corp,dc=example
objectClass: groupOfNames
cn: vm-operators
member: uid=olga,ou=people,dc=corp,dc=example
member: uid=paul,ou=more (of them),dc=corp,dc=example

dn: cn=bosses,dc=corp,dc=example
objectClass: posixGroup
cn: bosses
gidNumber: 1000
memberUid: bella
"""


class Slapd:
    """`close` ends it; `stop` and `start` let it be away."""

    def __init__(self, root: Path) -> None:
        assert SLAPD is not None
        self.root, self.port, self.port_tls = root, free_port(), free_port()
        make_certificate(root / "tls", ["localhost"])
        # a copy: Ubuntu confines the one at its own place to the machine's own directory
        self.program = shutil.copy(SLAPD, root / "slapd")
        self.ca, self.secret = root / "tls/cert.pem", root / "reader"
        self.secret.write_text(f"{READER_WORD}\n")
        self.secret.chmod(0o600)
        (root / "db").mkdir()
        (root / "slapd.conf").write_text(CONFIG.format(root=root))
        known = [("olga", "people", "Olga"), ("bella", "people", "Bella"), ("carl", "people", "C"),
                 ("paul", "more (of them)", "Paul (the other)"), ("twin", "people", "One"),
                 ("twin", "more (of them)", "Two")]  # fmt: skip
        people = "".join(PERSON.format(uid=u, ou=ou, cn=cn, word=WORD) for u, ou, cn in known)
        self.add(TREE.format(reader=READER_WORD, people=people))
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def add(self, ldif: str) -> None:
        """Only while it does not run."""
        tool = [self.program, "-T", "add", "-f", self.root / "slapd.conf"]
        subprocess.run(tool, input=ldif.encode(), check=True, capture_output=True)

    def change(self, act: Callable[[Connection], object]) -> None:
        """What an administrator of the directory does, while it runs."""
        server = Server("localhost", self.port_tls, use_ssl=True, get_info=NONE)
        with Connection(server, ROOT, "root", raise_exceptions=True) as asked:
            act(asked)

    def start(self) -> None:
        at = f"ldap://localhost:{self.port} ldaps://localhost:{self.port_tls}"
        self.process = subprocess.Popen(
            [self.program, "-d", "0", "-h", at, "-f", self.root / "slapd.conf"],
            stderr=(self.root / "log").open("ab"),
        )
        end = time.monotonic() + 60
        while time.monotonic() < end and self.process.poll() is None:
            try:
                socket.create_connection(("localhost", self.port_tls), 1).close()
                return
            except OSError:
                time.sleep(0.02)
        raise AssertionError((self.root / "log").read_text())

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(20)
            self.process = None

    def settings(self, **more: Any) -> Ldap:
        known: dict[str, Any] = {
            "server": f"ldaps://localhost:{self.port_tls}", "ca": str(self.ca), "reader": READER,
            "reader_password_file": str(self.secret), "people_base": "dc=corp,dc=example",
            "roles": RULES,
        }  # fmt: skip
        return Ldap(**(known | more))
