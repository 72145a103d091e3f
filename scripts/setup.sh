#!/usr/bin/env bash
# Makes this checkout ready: the Debian packages Outlast's tests and demo need, and .venv with the
# locked Python packages. Safe to run again; takes well under two seconds when nothing is to do.
#
# Rules:
# 1. It says what it installs and why, and installs only what is missing.
# 2. It never asks (but sudo may ask for your password), starts no service and changes no setting.
#    libvirt-daemon-system is left out on purpose: it would start a libvirtd at every boot.
# 3. Trouble is one clear sentence on stderr and exit code 1.
#
# OUTLAST_SKIP_PACKAGES=1 leaves Debian packages alone (you installed them in another way).
# OUTLAST_PYTHON=/path/to/python3 takes another interpreter; its headers must be there.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly STAMP=.venv/.outlast-setup
PACKAGES=(
  "python3:Outlast itself"
  "python3-venv:a private place for its Python packages"
  "python3-dev:headers, to build libvirt-python"
  "gcc:builds libvirt-python and the rack's tiny guest"
  "libc6-dev:headers of the C library, for the same"
  "pkg-config:tells libvirt-python where libvirt is"
  "libvirt-dev:headers of libvirt, for the same"
  "libvirt-daemon:libvirtd, which each host of the rack runs for itself"
  "libvirt-daemon-driver-qemu:libvirt's way to QEMU"
  "libvirt-daemon-system:its user and its services, for the tests that boot whole hosts"
  "libvirt-daemon-system-systemd:the same"
  "libvirt-clients:virsh, to look into a host"
  "qemu-system-x86:runs the VMs"
  "qemu-utils:qemu-img, makes disks"
  "nftables:cuts the rack's networks"
  "iproute2:makes them"
  "iputils-ping:tests whether whole packets pass them"
  "util-linux:unshare and nsenter, the walls between the rack's hosts"
  "systemd-container:boots a host with all its services, to test them"
  "busybox-static:the inside of the demo's VM"
  "ovmf:UEFI for VMs"
  "swtpm:a TPM for VMs"
  "swtpm-tools:makes its first state"
  "glusterfs-server:a shared file system, for the tests of mounts"
  "glusterfs-client:mounts it"
  "ocfs2-tools:makes the file system of another kind; the tests let it"
  "kmod:modprobe, without which mkfs.ocfs2 goes wrong"
  "fence-agents:switches machines off; the tests let one talk to a small BMC"
  "openipmi:a BMC that speaks IPMI, simulated"
  "ipmitool:how a fence agent speaks with it"
  "snmp:how a fence agent speaks with a PDU"
  "snmpd:stands in for one"
  "etcd-server:pools without a shared file system; the tests run members of their own"
  "ceph-mon:disks on RBD; the tests run a Ceph of their own"
  "ceph-osd:the same"
  "ceph-common:the same"
  "qemu-block-extra:QEMU's way to it"
  "postgresql:a real database for the manager's tests, which run one of their own"
  "slapd:a real directory (LDAP), for the same"
)
# Ubuntu has Chromium as a snap only; the tests that need it are left out there
if grep -qsx 'ID=debian' /etc/os-release; then
  PACKAGES+=("chromium:a browser, for the tests of the console")
fi
readonly PACKAGES

say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif ! command -v sudo >/dev/null; then
    die "this needs root and there is no sudo: run 'scripts/setup.sh' once as root"
  elif [ -t 0 ]; then
    sudo "$@"
  else
    sudo -n "$@" || die "this needs root and sudo asks for a password, but there is no terminal"
  fi
}

known_distribution() {
  local ID="" VERSION_ID=""
  # shellcheck disable=SC1091
  [ -r /etc/os-release ] && . /etc/os-release
  case "$ID" in
    debian) dpkg --compare-versions "${VERSION_ID:-999}" ge 12 ;;
    ubuntu) dpkg --compare-versions "${VERSION_ID:-0}" ge 24.04 ;;
    *) return 1 ;;
  esac
}

missing_packages() {
  local entry name
  for entry in "${PACKAGES[@]}"; do
    name=${entry%%:*}
    case " $installed " in *" $name "*) ;; *) printf '%s\n' "$entry" ;; esac
  done
}

install_packages() {
  local names=() entry installed missing
  if [ "${OUTLAST_SKIP_PACKAGES:-}" = 1 ]; then return; fi
  if ! command -v dpkg-query >/dev/null || ! known_distribution; then
    die "only Debian 12 and Ubuntu 24.04 or newer are known here. Install what the list in" \
      "scripts/setup.sh names by hand, then run it again with OUTLAST_SKIP_PACKAGES=1"
  fi
  for entry in "${PACKAGES[@]}"; do names+=("${entry%%:*}"); done
  installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "${names[@]}" 2>/dev/null |
    sed -n 's/^installed //p' | tr '\n' ' ') || true
  missing=$(missing_packages)
  [ -n "$missing" ] || return 0
  say "installing Debian packages that are missing:"
  names=()
  while IFS=: read -r name why; do
    printf '    %-28s %s\n' "$name" "$why"
    names+=("$name")
  done <<<"$missing"
  no_services_of_the_machine
  no_directory_of_the_machine
  as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq ||
    die "apt-get update failed: is there a network? (see the lines above)"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y -o Dpkg::Use-Pty=0 \
    --no-install-recommends \
    "${names[@]}" </dev/null || die "apt-get could not install: ${names[*]} (see the lines above)"
}

no_services_of_the_machine() {
  # Debian's packages would start these at every boot; the tests want the programs only
  local place=/etc/postgresql-common/createcluster.d unit entry
  case " $installed " in *" postgresql "*) ;; *)
    as_root mkdir -p "$place"
    echo "create_main_cluster = false" | as_root tee "$place/outlast.conf" >/dev/null ;;
  esac
  for entry in etcd-server:etcd snmpd:snmpd; do
    unit=/etc/systemd/system/${entry#*:}.service
    case " $installed " in *" ${entry%:*} "*) ;; *)
      [ -e "$unit" ] || as_root ln -sf /dev/null "$unit" ;; # masked
    esac
  done
}

no_directory_of_the_machine() {
  # the same of slapd, whose package asks before it is installed
  case " $installed " in *" slapd "*) return ;; esac
  echo "slapd slapd/no_configuration boolean true" | as_root debconf-set-selections
}

make_folders() {
  # a private libvirtd puts its own folders over these, so they must be there to be covered
  local place lacking=()
  for place in /etc/libvirt /var/lib/libvirt /var/log/libvirt /var/cache/libvirt /etc/pki; do
    [ -d "$place" ] || lacking+=("$place")
  done
  [ "${#lacking[@]}" = 0 ] || as_root mkdir -p "${lacking[@]}"
}

find_python() {
  local python=${OUTLAST_PYTHON:-/usr/bin/python3}
  [ -x "$python" ] || die "there is no $python; name one with OUTLAST_PYTHON=/path/to/python3"
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    die "$python is older than Python 3.11; name another with OUTLAST_PYTHON=/path/to/python3"
  printf '%s' "$python"
}

find_uv() {
  if command -v uv >/dev/null && uv --version >/dev/null 2>&1; then
    printf 'uv'
    return
  fi
  if [ ! -x .venv-tools/bin/uv ]; then
    "$1" -m venv .venv-tools >&2
    .venv-tools/bin/python -m pip install -q --disable-pip-version-check --require-hashes \
      -r requirements/tools.lock >&2 ||
      die "pip could not install uv: is there a network? (see the lines above)"
  fi
  printf '%s' .venv-tools/bin/uv
}

wanted_stamp() {
  { cat requirements/dev.lock requirements/build.lock scripts/setup.sh; "$1" -V; pwd; } | sha256sum
}

make_venv() {
  local python uv site
  python=$(find_python)
  if [ -x .venv/bin/python ] && [ "$(cat "$STAMP" 2>/dev/null)" = "$(wanted_stamp "$python")" ]
  then
    return
  fi
  uv=$(find_uv "$python")
  export UV_PYTHON_DOWNLOADS=never UV_NO_PROGRESS=1 UV_LINK_MODE=copy
  say "installing the locked Python packages into .venv"
  if ! .venv/bin/python -c 'import sys' 2>/dev/null; then
    rm -rf .venv
    "$uv" venv -q --python "$python" .venv
  fi
  "$uv" pip sync -q --python .venv/bin/python --require-hashes \
    --build-constraints requirements/build.lock requirements/dev.lock ||
    die "the locked Python packages could not be installed (see the lines above)"
  # the checkout itself, as it stands: no build, no copy
  site=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  printf '%s\n' "$PWD/src" >"$site/outlast-checkout.pth"
  cat >.venv/bin/outlast <<RUN
#!$PWD/.venv/bin/python
import sys
from outlast.cli.main import run
sys.exit(run())
RUN
  chmod 755 .venv/bin/outlast
  wanted_stamp "$python" >"$STAMP"
}

main() {
  install_packages
  make_folders
  make_venv
}

main "$@"
