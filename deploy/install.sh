#!/bin/bash
# Installs bmsd from this checkout as services of systemd, or brings an installation up to date.
#
#   deploy/install.sh [--wheels FOLDER]      install, or upgrade in place; may be run again at any time
#   deploy/install.sh --uninstall [--purge]  remove it; configuration and state stay, unless --purge
#
#   --wheels FOLDER   take all packages from there, without network: made by `make wheels` on a computer with the same
#                     architecture and version of Python
#
# An upgrade makes the new environment beside the old one, checks the configuration with it, and only then restarts
# control: in order, so that the contactors open and close again. Where something does not fit, the old one goes on.
set -u -o pipefail

source=$(dirname "$(dirname "$(realpath "$0")")")
# shellcheck source=steps.sh
. "$source/deploy/steps.sh"

fail() {
    complain "$@"
    exit 1
}

usage() { sed -n '2,/^set /s/^# \{0,1\}//p' "$0"; }

parse() {
    task=install wheels='' purge=no
    while [ $# -gt 0 ]; do
        case $1 in
            --wheels) wheels=$(realpath -e -- "${2:-}") || fail "--wheels: no such folder: ${2:-}"; shift ;;
            --uninstall) task=uninstall ;;
            --purge) purge=yes ;;
            -h | --help) usage; exit 0 ;;
            *) fail "unknown option $1; $0 --help" ;;
        esac
        shift
    done
    [ $purge = no ] || [ $task = uninstall ] || fail "--purge goes with --uninstall"
}

install_or_upgrade() {
    local release first=yes version
    version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$source/pyproject.toml")
    [ -L $venv ] && first=no
    mkdir -p $releases
    release=$(mktemp -d "$releases/$version.XXXXXX") && chmod 755 "$release" || fail "no room in $releases"
    trap 'rm -rf "$release"' EXIT
    say "making the environment of $version"
    make_environment "$source" "$release" "$wheels" || fail "the environment was not made, see above; nothing was changed"
    compile_environment "$release"
    carry "$source" "$release" || fail "no room in $releases"
    activate "$release" || fail "$version is not in use; what ran before goes on"
    trap - EXIT
    [ $first = no ] || systemctl -q enable "${units[@]}"
    say "$version is installed"
    what_now
}

uninstall() {
    stop_and_disable
    take_away
    if [ $purge = yes ]; then
        forget
        say "removed, with configuration and state"
    else
        say "removed; /etc/bmsd, /var/lib/bmsd, /var/lib/bmsd-gateway and the users that own them stay (--purge)"
    fi
}

parse "$@"
[ "$(id -u)" -eq 0 ] || fail "only root can do this: sudo $0 $*"
umask 022
case $(dpkg-query -W -f '${db:Status-Status}' bmsd 2>/dev/null) in
    '' | not-installed | config-files) ;;
    *) fail "installed as a Debian package: apt install ./bmsd_*.deb upgrades it, apt remove bmsd removes it" ;;
esac
if [ $task = uninstall ]; then uninstall; else install_or_upgrade; fi
