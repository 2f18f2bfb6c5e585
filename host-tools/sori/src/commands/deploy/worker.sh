#!/bin/sh
# The part of `sori deploy` that runs on the target, as root. Once started it needs no connection.
# It ends with one complete version, the old or the new.
#
#   worker.sh start FILE SHA256 deb|model ID    copies the file, and starts `work` in the background
#   worker.sh work deb|model ID
#
# It reports progress in $state/state, with one line each for id, kind, sha256, phase, outcome, why:
#   phase    queued, checking, saving, installing, starting, rolling-back, done
#   outcome  when done: ok; refused (nothing was changed); rolled-back; broken
# and details in $state/log.
set -u
umask 022
export LC_ALL=C DEBIAN_FRONTEND=noninteractive
PATH=${PATH:-/usr/sbin:/usr/bin}:/usr/local/sbin:/usr/sbin:/sbin

# Tests set their own root.
root=${SORI_DEPLOY_ROOT:-}
state=$root/var/lib/sori-deploy
# Where the service looks for a package; set for sori-pi run from here.
export STATE_DIRECTORY="$root/var/lib/sori-pi"
config=$root/etc/sori-pi/sori-pi.toml
# Seconds to become healthy. The service itself has 30 to start.
patience=45

# Joins text into one line.
flat() { printf %s "$1" | tr '\n' ' ' | sed 's/  */ /g; s/^ //; s/ $//'; }

tell() { # PHASE [OUTCOME [WHY]]
    {
        echo "id=$id"
        echo "kind=$kind"
        echo "sha256=$sha256"
        echo "phase=$1"
        echo "outcome=${2:-}"
        echo "why=$(flat "${3:-}")"
    } >"$state/state.partial"
    sync "$state/state.partial" 2>/dev/null
    mv "$state/state.partial" "$state/state"
    echo "$(date -u +%H:%M:%S) $1 ${2:-} ${3:-}" >>"$state/log"
}

# Nothing was changed.
refuse() {
    rm -rf "$state/new"
    tell done refused "$1"
    exit 1
}

sum() { sha256sum <"$1" | cut -c1-64; }

start() { # FILE SHA256
    mkdir -p "$state" || exit 1
    exec 9>"$state/lock"
    if ! flock -n 9; then
        echo "sori:busy=yes"
        exit 0
    fi
    # A copy that only root can change, so that what was checked is what gets used.
    if ! cp "$1" "$state/incoming.partial" || [ "$(sum "$state/incoming.partial")" != "$2" ]; then
        rm -f "$state/incoming.partial"
        echo "sori:damaged=yes"
        exit 0
    fi
    cp "$0" "$state/worker.partial" || exit 1
    sync
    mv "$state/incoming.partial" "$state/incoming.$kind"
    mv "$state/worker.partial" "$state/worker.sh"
    sha256=$2
    : >"$state/log"
    tell queued
    flock -u 9
    # A session's processes may be killed with it; a separate unit does not belong to the session.
    if [ -d "$root/run/systemd/system" ]; then
        systemd-run --quiet --collect --unit="sori-deploy-$id" \
            /bin/sh "$state/worker.sh" work "$kind" "$id" || exit 1
    else
        setsid /bin/sh "$state/worker.sh" work "$kind" "$id" </dev/null >/dev/null 2>&1 9>&- &
    fi
    echo "sori:started=yes"
}

# The variables that the unit sets for the service (SORI_PI_…), each ending with a zero byte: they
# also apply to queries and trial runs.
service_environment() {
    pid=$(systemctl show --property MainPID --value sori-pi 2>/dev/null)
    if [ "${pid:-0}" != 0 ] && [ -r "/proc/$pid/environ" ]; then
        cat "/proc/$pid/environ"
    else
        # Quoted by systemd as for a shell.
        eval "set -- $(systemctl show --property Environment --value sori-pi 2>/dev/null)"
        [ $# = 0 ] || printf '%s\0' "$@"
    fi | grep -z '^SORI_PI_'
}

# Runs a program in the service's environment. The last setting of a name counts.
as_service() { # PROGRAM COMMAND CONFIG [NAME=VALUE]
    # shellcheck disable=SC2016
    {
        service_environment
        [ $# -lt 4 ] || printf '%s\0' "$4"
    } | xargs -0 sh -c '
        program=$0 command=$1 config=$2
        shift 2
        exec env "$@" "$program" $command --config "$config"' "$1" "$2" "$3"
}

status() { # PROGRAM FIELD
    as_service "$1" status "$config" 2>>"$state/log" | sed -n "s/^$2  *//p" | head -n 1
}

# Checks the program with this system's libraries, configuration and package: the configuration is
# valid, and the package computes the bits it promises and has the signature that is required.
prove() { # PROGRAM [NAME=VALUE]
    program=$1
    shift
    settings=$config
    [ -f "$settings" ] || settings=$state/new/etc/sori-pi/sori-pi.toml
    said=$(as_service "$program" "run --check-config" "$settings" "$@" 2>&1) || {
        said=${said:-it exits without output}
        return 1
    }
}

healthy() {
    tries=$patience
    row=0
    while [ "$tries" -gt 0 ]; do
        # A single answer may come from a service that is about to exit.
        if systemctl is-active --quiet sori-pi && [ -n "$(status "$root/usr/bin/sori-pi" version)" ]; then
            row=$((row + 1))
            [ "$row" -ge 3 ] && return 0
        else
            row=0
        fi
        if systemctl is-failed --quiet sori-pi; then
            return 1
        fi
        sleep 1
        tries=$((tries - 1))
    done
    return 1
}

# The microphone is opened after the start.
microphone() {
    tries=10
    while capture=$(status "$root/usr/bin/sori-pi" microphone) && [ "$capture" = starting ] && [ "$tries" -gt 0 ]; do
        sleep 1
        tries=$((tries - 1))
    done
    printf %s "$capture"
}

restart() {
    restarted=$(date +%s)
    systemctl daemon-reload >>"$state/log" 2>&1
    systemctl reset-failed sori-pi >>"$state/log" 2>&1
    systemctl restart sori-pi >>"$state/log" 2>&1 9>&-
}

# The service's own last message, or else systemd's about it.
last_words() {
    own=$(journalctl _SYSTEMD_UNIT=sori-pi.service --since "@$restarted" -q -n 1 -o cat 2>/dev/null)
    printf %s "${own:-$(journalctl -u sori-pi -q -n 1 -o cat 2>/dev/null)}"
}

version_of() { dpkg-query -W -f '${db:Status-Status} ${Version}' sori-pi 2>/dev/null; }

# Another installation may be running.
dpkg_do() {
    waited=0
    while :; do
        # Without the lock, which a program started by a package would hold as long as it runs.
        dpkg --force-confdef --force-confold "$@" </dev/null >"$state/dpkg.log" 2>&1 9>&-
        code=$?
        cat "$state/dpkg.log" >>"$state/log"
        if [ $code = 0 ] || [ $waited -ge 60 ] || ! grep -q 'frontend lock\|is locked' "$state/dpkg.log"; then
            return $code
        fi
        sleep 2
        waited=$((waited + 1))
    done
}

others_are_unfinished() {
    dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' | grep '^.[UFHWt]' | grep -qv ' sori-pi$'
}

why_of_dpkg() { grep -m 1 -i 'error\|cannot\|depend' "$state/dpkg.log" || tail -n 1 "$state/dpkg.log"; }

# Whether a file is a configuration file that the user has changed.
is_users() { # PATH
    shipped=$(dpkg-query -W -f '${Conffiles}\n' sori-pi | awk -v path="$1" '$1 == path { print $2 }')
    [ -n "$shipped" ] && [ "$shipped" != "$(md5sum <"$root$1" | cut -c1-32)" ]
}

# Packs the installed version into a package again, as dpkg-repack does. Configuration files that the
# user has changed are left out: dpkg would take them for the package's own, and the next version
# would replace them.
repack() { # FILE
    folder=$state/repack
    rm -rf "$folder" "$1"
    mkdir -p "$folder/DEBIAN" || return 1
    dpkg-query -L sori-pi | while IFS= read -r path; do
        from=$root$path
        if [ -f "$from" ] && is_users "$path"; then continue; fi
        if [ -L "$from" ] || [ -f "$from" ]; then
            mkdir -p "$folder$(dirname "$path")" && cp -a "$from" "$folder$path" || exit 1
        fi
    done || return 1
    dpkg-query -s sori-pi | sed '/^Status:/d; /^Conffiles:/,/^[^ ]/{/^Conffiles:/d; /^ /d}; /^Config-Version:/d' \
        >"$folder/DEBIAN/control" || return 1
    for part in preinst postinst prerm postrm conffiles triggers config templates shlibs; do
        info=$root/var/lib/dpkg/info/sori-pi.$part
        if [ -f "$info" ]; then
            cp "$info" "$folder/DEBIAN/$part" || return 1
        fi
    done
    if [ -f "$folder/DEBIAN/conffiles" ]; then
        while IFS= read -r path; do
            if [ -f "$folder$path" ]; then printf '%s\n' "$path"; fi
        done <"$folder/DEBIAN/conffiles" >"$folder/conffiles"
        mv "$folder/conffiles" "$folder/DEBIAN/conffiles"
    fi
    chmod -R go-w "$folder"
    dpkg-deb --root-owner-group -b "$folder" "$1.partial" >>"$state/log" 2>&1 || return 1
    rm -rf "$folder"
    mv "$1.partial" "$1"
}

# Identifies the installed build, whoever installed it: two builds of one version differ.
fingerprint() {
    { printf %s "$(version_of)" && cat "$root/var/lib/dpkg/info/sori-pi.md5sums"; } 2>/dev/null | sha256sum | cut -c1-64
}

# Whether the installed version, complete or not, comes from an interrupted deploy: $state/trying
# lists the versions tried since the last one that became healthy, which $state/deployed records.
is_unproven() {
    [ -f "$state/trying" ] && [ ! -f "$state/deployed" ] || return 1
    tried=$(version_of)
    case $tried in
    "installed "*) grep -qxF "${tried#installed }" "$state/trying" ;;
    esac
}

# Backs up the installed version as $state/previous.deb, or none if nothing is installed. After an
# interruption the backup is still the one from before.
save() {
    if is_unproven; then
        try
        return
    fi
    rm -f "$state/trying" "$state/previous.deb" "$state/previous.deployed" "$state/by-hand.tar"
    now=$(version_of)
    case $now in
    "" | "not-installed "* | "config-files "*)
        # Files in the package's places were installed by hand.
        dpkg-deb --fsys-tarfile "$state/incoming.deb" | tar -t | sed 's|^\./||; /\/$/d' | while IFS= read -r path; do
            if [ -f "$root/$path" ]; then printf '%s\n' "$path"; fi
        done >"$state/by-hand"
        if [ -s "$state/by-hand" ]; then
            tar -C "$root/" -cf "$state/by-hand.tar" -T "$state/by-hand" >>"$state/log" 2>&1 || return 1
        fi
        ;;
    "installed "*)
        if [ -f "$state/current.deb" ] &&
            [ "$(sum "$state/current.deb") $(fingerprint)" = "$(cat "$state/deployed" 2>/dev/null)" ]; then
            cp "$state/current.deb" "$state/previous.partial" &&
                mv "$state/previous.partial" "$state/previous.deb" &&
                cp "$state/deployed" "$state/previous.deployed" || return 1
        else
            repack "$state/previous.deb" || return 1
        fi
        ;;
    # Another's incomplete installation cannot be a backup.
    *) [ ! -f "$state/current.deb" ] || cp "$state/current.deb" "$state/previous.deb" || return 1 ;;
    esac
    sync
    try
}

# Marks the new version as tried, until it has become healthy or the old one is restored.
try() {
    {
        cat "$state/trying" 2>/dev/null
        dpkg-deb -f "$state/incoming.deb" Version
    } >"$state/trying.partial" && mv "$state/trying.partial" "$state/trying" && sync
}

roll_back() { # WHY
    tell rolling-back "" "$1"
    outcome=rolled-back
    why=$1
    if [ -f "$state/previous.deb" ]; then
        if dpkg_do -i "$state/previous.deb" && { ! is_enabled || { restart; healthy; }; }; then
            if [ -f "$state/previous.deployed" ]; then mv "$state/previous.deployed" "$state/deployed"; fi
        else
            outcome=broken
            why="$1; and the previous version does not start either: $(why_of_dpkg)"
        fi
    else
        # Configuration and history are kept.
        if ! dpkg_do --remove sori-pi; then
            outcome=broken
            why="$1; and it cannot be removed: $(why_of_dpkg)"
        elif [ -f "$state/by-hand.tar" ]; then
            if tar -C "$root/" -xpf "$state/by-hand.tar" >>"$state/log" 2>&1; then
                restart
            else
                outcome=broken
                why="$1; and the files installed by hand are in $state/by-hand.tar"
            fi
        fi
    fi
    rm -rf "$state/trying" "$state/new"
    tell done "$outcome" "$why"
    exit 1
}

is_enabled() { systemctl is-enabled --quiet sori-pi 2>/dev/null; }

# Installs its dependencies before the package itself. Without apt, dpkg reports what is missing.
satisfy() {
    depends=$(dpkg-deb -f "$state/incoming.deb" Depends)
    if [ -z "$depends" ] || ! command -v apt-get >/dev/null 2>&1; then return 0; fi
    for try in 1 2; do
        if apt-get -q -y --no-install-recommends --no-remove -o DPkg::Lock::Timeout=120 satisfy "$depends" \
            </dev/null >"$state/apt.log" 2>&1; then
            cat "$state/apt.log" >>"$state/log"
            return 0
        fi
        cat "$state/apt.log" >>"$state/log"
        [ $try = 2 ] || apt-get -q update </dev/null >>"$state/log" 2>&1
    done
    return 1
}

deploy_deb() {
    deb=$state/incoming.deb
    new=$state/new
    tell checking
    rm -rf "$new"
    name=$(dpkg-deb -f "$deb" Package 2>>"$state/log") || refuse "the file is not a Debian package"
    [ "$name" = sori-pi ] || refuse "the package is $name, not sori-pi"
    ours=$(dpkg --print-architecture)
    theirs=$(dpkg-deb -f "$deb" Architecture)
    [ "$theirs" = "$ours" ] || [ "$theirs" = all ] ||
        refuse "the package is for $theirs but this system is $ours: give --deb the package for $ours, which cargo xtask dist builds"
    needs=$(dpkg-deb -f "$deb" Depends | tr ',|' '\n\n' | sed -n 's/^ *libc6 (>= \([^)]*\)).*/\1/p' | head -n 1)
    has=$(dpkg-query -W -f '${Version}' libc6 2>/dev/null | head -n 1)
    if [ -n "$needs" ] && [ -n "$has" ] && ! dpkg --compare-versions "$has" ge "$needs"; then
        refuse "it needs glibc $needs but this system has $has: update the system to Debian 12 (Bookworm) or newer"
    fi
    # Completes others' installations that a power failure interrupted. Ours is replaced.
    dpkg_do --configure -a || ! others_are_unfinished || refuse "dpkg cannot complete an earlier installation: $(why_of_dpkg); run dpkg --configure -a there"
    satisfy || refuse "its dependencies cannot be installed: $(grep '^E:' "$state/apt.log" | head -n 1)"
    dpkg-deb -x "$deb" "$new" 2>>"$state/log" || refuse "not enough space to unpack it: $(df -Ph "$state" | awk 'NR == 2 { print $4 " are free" }')"
    if ! prove "$new/usr/bin/sori-pi"; then
        case $said in
        *GLIBC_*) refuse "it needs a newer glibc than this system's $has: update the system to Debian 12 (Bookworm) or newer" ;;
        *) refuse "the new program does not work here: $said" ;;
        esac
    fi
    tell saving
    save || refuse "cannot back up the installed version: $(tail -n 1 "$state/log")"
    tell installing
    # Until the new version is healthy, no build counts as deployed.
    rm -f "$state/deployed"
    dpkg_do -i "$deb" || roll_back "installing it failed: $(why_of_dpkg)"
    prove "$root/usr/bin/sori-pi" || roll_back "the installed program does not work: $said"
    note=
    if is_enabled; then
        tell starting
        restart
        healthy || roll_back "the service did not become healthy: $(last_words)"
        case $(microphone) in
        "" | listening | muted) ;;
        *) note="the service is healthy, but receives no audio from its microphone: run sudo sori-pi mic doctor there" ;;
        esac
    else
        note="the service remains disabled: enable it with sudo systemctl enable --now sori-pi"
    fi
    mv "$deb" "$state/current.deb"
    echo "$sha256 $(fingerprint)" >"$state/deployed"
    sync
    rm -rf "$new" "$state/trying" "$state/previous.deb" "$state/previous.deployed" "$state/by-hand.tar"
    tell done ok "$note"
}

deploy_model() {
    new=$state/incoming.model
    program=$root/usr/bin/sori-pi
    tell checking
    [ -x "$program" ] || refuse "sori-pi is not installed there: sori deploy without --model-only installs it"
    prove "$program" "SORI_PI_MODEL_PACKAGE=$new" ||
        refuse "$(printf %s "$said" | sed "s|^error: ||; s|$new|the package|")"
    place=$(status "$program" watched)
    taken=$(status "$program" taken)
    refused=$(status "$program" refused)
    case $place in
    "") refuse "the service does not respond, so it cannot confirm the package: check systemctl status sori-pi" ;;
    none) refuse "the service watches no file: name one as package in [model] of $config" ;;
    "$STATE_DIRECTORY/genre.sori") ;;
    # Root writes to the path the service reports, so the configuration must name it, too.
    *)
        service_environment | grep -qzxF "SORI_PI_MODEL_PACKAGE=$place" || grep -qF "$place" "$config" ||
            refuse "the service watches $place, which $config does not name"
        ;;
    esac
    if [ -f "$place" ] && [ "$(sum "$place")" = "$sha256" ] && [ "$(status "$program" from)" = "$place" ]; then
        tell done ok "the service already listens with it"
        exit 0
    fi
    tell saving
    rm -f "$state/previous.model"
    if [ -f "$place" ]; then
        as_owner cat "$place" >"$state/previous.model" || refuse "cannot back up the current package"
    fi
    tell installing
    put "$new" || refuse "cannot write the package to $place: $(tail -n 1 "$state/log")"
    tell starting
    tries=$patience
    while [ "$tries" -gt 0 ]; do
        now=$(status "$program" taken)
        if [ -n "$now" ] && [ "$now" -gt "$taken" ]; then
            rm -f "$new"
            tell done ok
            exit 0
        fi
        now=$(status "$program" refused)
        if [ -n "$now" ] && [ "$now" -gt "$refused" ]; then
            undo "$(status "$program" problem)"
        fi
        sleep 1
        tries=$((tries - 1))
    done
    undo "the service did not accept it within $patience seconds"
}

# The folder may belong to the service's user, who could redirect root with a link.
as_owner() {
    owner=$(stat -c %U "$(dirname "$place")")
    if [ "$owner" = "$(id -un)" ]; then
        "$@"
    else
        runuser -u "$owner" -- "$@"
    fi
}

# Written beside its place first, so that the service sees the old file or the new one.
put() { # FILE
    # shellcheck disable=SC2016
    as_owner sh -c 'cat >"$1.deploy" && chmod 644 "$1.deploy" && sync "$1.deploy" && mv "$1.deploy" "$1"' \
        sh "$place" <"$1" 2>>"$state/log"
}

undo() { # WHY
    tell rolling-back "" "$1"
    if [ -f "$state/previous.model" ]; then
        put "$state/previous.model"
    else
        as_owner rm -f "$place"
    fi
    tell done rolled-back "$1"
    exit 1
}

work() {
    exec 9>"$state/lock"
    flock -w 10 9 || exit 1
    # A later deploy may have been queued meanwhile.
    [ "$(sed -n 's/^id=//p' "$state/state")" = "$id" ] || exit 1
    sha256=$(sed -n 's/^sha256=//p' "$state/state")
    "deploy_$kind"
}

case $1 in
start)
    kind=$4
    id=$5
    start "$2" "$3"
    ;;
work)
    kind=$2
    id=$3
    work
    ;;
esac
