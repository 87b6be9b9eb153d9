# The steps that deploy/install.sh and the Debian package have in common; both source this file.
#
#   /opt/bmsd/releases/NAME   a virtual environment with bmsd in it
#   /opt/bmsd/venv            a link to the one in use: an upgrade, and the way back, is one rename
#   /etc/bmsd                 configuration and credentials; never touched
#   /var/lib/bmsd, /var/lib/bmsd-gateway   state; never touched

releases=/opt/bmsd/releases
venv=/opt/bmsd/venv
configuration=/etc/bmsd/bmsd.toml
units=(bmsd.service bmsd-gateway.service)
all_units=(bmsd-gateway-modbus.socket "${units[@]}")

say() { echo "bmsd: $*"; }
complain() { echo "bmsd: $*" >&2; }
systemd_runs() { [ -d /run/systemd/system ]; }

# carry SOURCE RELEASE: what belongs to a release besides its environment, from a checkout.
carry() {
    local to=$2/share/bmsd
    install -D -m 644 -t "$to/systemd" "$1"/systemd/*.* \
        && install -D -m 644 -t "$to/network" "$1"/systemd/network/* \
        && install -D -m 644 -t "$to/examples" "$1"/deploy/*.toml "$1"/deploy/*.dbc "$1"/deploy/*.json \
        && install -D -m 644 -t "$to/doc" "$1"/*.md "$1"/docs/*.md "$1"/docs/*.csv
}

# lay_out RELEASE [ROOT]: puts that where systemd and people look for it.
lay_out() {
    local from=$1/share/bmsd root=${2:-}
    install -D -m 644 -t "$root/usr/lib/systemd/system" "$from"/systemd/*.service "$from"/systemd/*.socket \
        && install -D -m 644 "$from/systemd/sysusers.conf" "$root/usr/lib/sysusers.d/bmsd.conf" \
        && install -D -m 644 "$from/systemd/tmpfiles.conf" "$root/usr/lib/tmpfiles.d/bmsd.conf" \
        && install -D -m 644 "$from/systemd/watchdog.conf" "$root/usr/lib/systemd/system.conf.d/50-bmsd-watchdog.conf" \
        && install -d "$root/usr/bin" "$root/usr/share/doc" \
        && ln -sfn $venv/bin/bmsd "$root/usr/bin/bmsd" \
        && ln -sfn $venv/share/bmsd "$root/usr/share/bmsd" \
        && ln -sfn $venv/share/bmsd/doc "$root/usr/share/doc/bmsd"
}

take_away() { # all but configuration, state and users
    rm -f /usr/bin/bmsd /usr/share/bmsd /usr/share/doc/bmsd "${all_units[@]/#//usr/lib/systemd/system/}" \
        /usr/lib/sysusers.d/bmsd.conf /usr/lib/tmpfiles.d/bmsd.conf \
        /usr/lib/systemd/system.conf.d/50-bmsd-watchdog.conf
    rm -rf /opt/bmsd
    rmdir --ignore-fail-on-non-empty /usr/lib/systemd/system.conf.d 2>/dev/null || true
    rmdir --ignore-fail-on-non-empty /etc/bmsd/credentials /etc/bmsd 2>/dev/null || true
    if systemd_runs; then systemctl daemon-reload; fi
}

# make_environment SOURCE FOLDER [WHEELS]: bmsd and what it needs, exactly as pinned; from WHEELS without network.
make_environment() {
    local source=$1 folder=$2 wheels=${3:-} from=() product=$1
    if [ -n "$wheels" ]; then
        from=(--no-index --find-links "$wheels")
        product=bmsd
    fi
    /usr/bin/python3 -m venv "$folder" || { complain "as root: apt-get install python3-venv"; return 1; }
    local pip=("$folder/bin/python" -m pip)
    "${pip[@]}" install -qq --disable-pip-version-check --no-compile "${from[@]}" --require-hashes \
        -r "$source/requirements.txt" || return 1
    "${pip[@]}" install -qq --disable-pip-version-check --no-compile "${from[@]}" --no-deps "$product" || return 1
    "${pip[@]}" uninstall -qq -y setuptools pip # a rack installs nothing by itself
}

# compile_environment FOLDER [ROOT]: units cannot write there, and without it every start would compile anew.
compile_environment() {
    "$1/bin/python" -m compileall -qq ${2:+-s "$2" -p /} "$1/lib" || true # what cannot be compiled is not imported
}

# prepare RELEASE: users, groups, folders.
prepare() {
    systemd-sysusers "$1/share/bmsd/systemd/sysusers.conf" \
        && { ! getent group gpio >/dev/null || usermod -aG gpio bmsd; } \
        && systemd-tmpfiles --create "$1/share/bmsd/systemd/tmpfiles.conf"
}

# fits RELEASE: whether the configuration, if there is one, is right for it. As control will read it.
fits() {
    local answer
    [ -e $configuration ] || return 0
    answer=$(runuser -u bmsd -- "$1/bin/bmsd" check $configuration 2>&1) && return 0
    complain "$configuration is not right for this version:"
    echo "$answer" >&2
    return 1
}

# switch_to RELEASE: it is the one in use from now on; whatever ran runs again. An error when control does not come up.
switch_to() {
    lay_out "$1" && ln -sfn "$1" $venv.new && mv -T $venv.new $venv || return 1
    systemd_runs || return 0
    systemctl daemon-reload
    systemctl try-restart bmsd.service || return 1
    systemctl try-restart bmsd-gateway.service || complain "the gateway does not start: journalctl -u bmsd-gateway"
}

# activate RELEASE: switches to it where the configuration fits, and back where control does not come up; then it fails.
activate() {
    local new=$1 old
    old=$(readlink $venv || true)
    prepare "$new" && fits "$new" || return 1
    if ! switch_to "$new"; then
        journalctl --sync || true
        journalctl -u bmsd.service -n 30 -o cat --no-pager >&2 || true
        complain "control does not come up, see above"
        [ -n "$old" ] && [ "$old" != "$new" ] || return 1
        complain "back to ${old##*/}"
        switch_to "$old"
        return 1
    fi
    find $releases -mindepth 1 -maxdepth 1 ! -path "$new" -exec rm -rf {} +
}

stop_and_disable() {
    if systemd_runs; then systemctl stop "${all_units[@]}" 2>/dev/null || true; fi
    systemctl -q disable "${all_units[@]}" 2>/dev/null || true
}

forget() { # configuration, state and users
    rm -rf /etc/bmsd /var/lib/bmsd /var/lib/bmsd-gateway
    local name
    for name in bmsd bmsd-gateway; do userdel "$name" 2>/dev/null || true; done
    for name in bmsd bmsd-gateway bmsd-link bmsd-service; do groupdel "$name" 2>/dev/null || true; done
}

what_now() {
    [ -e $configuration ] && return 0
    say "installed, not configured: copy the nearest of /usr/share/bmsd/examples to $configuration, go through it with"
    say "the data sheets in your hand, then: bmsd check $configuration && systemctl start ${units[*]}"
}
