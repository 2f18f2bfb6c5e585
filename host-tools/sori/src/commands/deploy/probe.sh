# What `sori deploy` asks a target about itself. It changes nothing.
# shellcheck shell=sh
set -u
export LC_ALL=C

# Marked, because a login may print other things.
say() { printf 'sori:%s=%s\n' "$1" "$2"; }

root=${SORI_DEPLOY_ROOT:-}
state=$root/var/lib/sori-deploy

# The string in a device tree ends with a zero byte.
if [ -r /proc/device-tree/model ]; then
    say board "$(tr -d '\0' </proc/device-tree/model)"
fi
say machine "$(uname -m)"
say os "$(. /etc/os-release 2>/dev/null && printf %s "${PRETTY_NAME:-}")"
say glibc "$(getconf GNU_LIBC_VERSION 2>/dev/null | sed 's/^glibc //')"
if architecture=$(dpkg --print-architecture 2>/dev/null); then
    say architecture "$architecture"
    installed=$(dpkg-query -W -f '${db:Status-Status} ${Version}' sori-pi 2>/dev/null)
    say installed "$installed"
fi

if [ "$(id -u)" = 0 ]; then
    say root itself
    sudo=
elif ! command -v sudo >/dev/null 2>&1; then
    say root no-sudo
elif sudo -n true 2>/dev/null; then
    say root sudo
    sudo='sudo -n'
else
    say root asks
fi
say user "$(id -un)"

# KiB, and the file system's mount point. The folder itself may not exist yet.
free() {
    folder=$1
    while [ ! -d "$folder" ]; do folder=$(dirname "$folder"); done
    df -Pk "$folder" | awk 'NR == 2 { print $4, $6 }'
}
say free_upload "$(free "${XDG_CACHE_HOME:-$HOME/.cache}")"
say free_system "$(free "$root/usr/bin")"
say free_state "$(free "$state")"
# An appliance's system is replaced as a whole.
if [ -n "${sudo+set}" ] && ! $sudo test -w "$root/usr/bin"; then
    say read_only yes
fi

# State of an earlier `sori deploy`: what it installed, and how it ended, if it has. Another version
# may have been installed since: worker.sh uses the same fingerprint to tell.
fingerprint=$({ printf %s "${installed:-}" && cat "$root/var/lib/dpkg/info/sori-pi.md5sums"; } 2>/dev/null |
    sha256sum | cut -c1-64)
if read -r sum deployed 2>/dev/null <"$state/deployed" && [ "$deployed" = "$fingerprint" ]; then
    say deployed "$sum"
fi
if [ -r "$state/state" ]; then
    if ! flock -n "$state/lock" true 2>/dev/null; then
        say running yes
    fi
    sed 's/^/sori:last_/' "$state/state"
fi
say complete yes
