# Sourced by tests/vcan/run and tests/systemd/boot: a command in a guest of User-mode Linux, as if it ran here.
# The including script has `fail`, and $job, a folder that ends with it.

uml=${UML:-linux.uml}
modules=${UML_MODULES:-/usr/lib/uml/modules}

# parse_options "$@": what both take; $OPTIND is where the command begins.
parse_options() {
    local option
    folder=$PWD writable=() seconds=600 memory=1G probe=no
    while getopts :C:w:t:m:p option; do
        case $option in
            C) folder=$(realpath -e -- "$OPTARG") || fail "-C: no such folder: $OPTARG" ;;
            w) writable+=("$(realpath -e -- "$OPTARG")") || fail "-w: no such folder: $OPTARG" ;;
            t) seconds=$OPTARG ;;
            m) memory=$OPTARG ;;
            p) probe=yes ;;
            *) fail "unknown option or missing value: -$OPTARG" ;;
        esac
    done
    [[ $seconds =~ ^[1-9][0-9]*$ ]] || fail "-t takes whole seconds, not '$seconds'"
}

missing_for_uml() {
    local tool
    for tool in "$uml" ip insmod busybox taskset "$@"; do
        command -v "$tool" >/dev/null || echo "$tool"
    done
}

# write_command FOLDER COMMAND [ARGUMENT]...: the script that the guest runs, in the same surroundings as here.
write_command() {
    export -p
    printf 'cd %q && exec' "$1"
    shift
    printf ' %q' "$@"
    echo
}

# The guest's memory is a file in /dev/shm; containers often give that 64 MB, which would kill the guest in mid-run.
memory_folder() {
    local free_kb
    free_kb=$(df --output=avail -k /dev/shm 2>/dev/null | tail -n 1)
    if [ "${free_kb:-0}" -ge "$(($(numfmt --from=iec "$memory") / 1024))" ]; then echo /dev/shm; else echo "$job"; fi
}

# boot_guest INIT [FILE]...: boots with INIT as PID 1, with $memory, for $seconds at most. INIT finds in the folder
# $VCAN_JOB: the FILEs, the list of $writable folders, the folder of kernel modules; it writes `output`, which comes
# here as it grows, and `status`, the exit code.
boot_guest() {
    local cpu guest status options init=$1
    read -r -a options <<<"${UML_OPTIONS:-}"
    # The guest's processes are traced by one host process: on one CPU each switch between them is cheapest.
    cpu=$(taskset -cp $$ | sed 's/.*: //; s/[-,].*//')
    printf '%s\n' "${writable[@]}" >"$job/writable"
    printf '%s\n' "$modules" >"$job/modules"
    cp "$@" "$job/"
    : >"$job/output"
    # An unknown kernel parameter (VCAN_JOB) becomes an environment variable of init.
    TMPDIR=$(memory_folder) timeout -k 2 "$seconds" taskset -c "$cpu" "$uml" \
        root=/dev/root rootfstype=hostfs rootflags=/ ro mem="$memory" quiet \
        uml_dir="$job" umid=guest con=null con0=null,fd:1 \
        init="$job/${init##*/}" VCAN_JOB="$job" "${options[@]}" </dev/null >"$job/console" 2>&1 &
    guest=$!
    trap 'kill "$guest" 2>/dev/null; exit 143' INT TERM HUP
    tail -f -n +1 -s 0.05 --pid="$guest" "$job/output"
    wait "$guest"
    status=$?
    [ -f "$job/status" ] && return "$(cat "$job/status")"
    # 137: the guest did not obey SIGTERM in two seconds.
    if [ "$status" -eq 124 ] || [ "$status" -eq 137 ]; then return 124; fi
    tail -n 20 "$job/console" >&2
    fail "the guest died (its process ended with $status)"
}
