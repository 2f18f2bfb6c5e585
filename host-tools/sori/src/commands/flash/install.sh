#!/bin/sh
# Installs Sori from the boot partition: sori-install.service runs this at every boot until it
# succeeds, so that a power cut or missing network only costs another try. Its output is in
# sori-install.log beside it, which any computer can read from the card.
set -eu
here=/boot/firmware
state=/var/lib/sori-pi
etc=/etc/sori-pi
units=/etc/systemd/system
export DEBIAN_FRONTEND=noninteractive

install_package() {
    apt-get -y -o DPkg::Lock::Timeout=600 -o Dpkg::Options::=--force-confold \
        --allow-downgrades install "$here"/sori-pi_*.deb
}

# Completes an installation that a power cut interrupted. dpkg exits with 2 if it could not work,
# usually because another process has its lock: apt can wait for that, dpkg cannot.
complete_earlier() {
    tries=60
    until dpkg --configure -a; do
        if [ $? -ne 2 ] || [ $((tries -= 1)) -eq 0 ]; then
            return 1
        fi
        sleep 10
    done
}

main() {
    echo "$(date): installing"
    complete_earlier
    # A library may be missing that must be downloaded.
    if ! install_package; then
        apt-get update
        install_package
    fi
    if [ -e "$here/sori-pi.toml" ]; then
        cp "$here/sori-pi.toml" "$etc/sori-pi.toml"
        # Only the service may read passwords.
        if grep -Eq '^[[:space:]]*(token|password)[[:space:]]*=' "$etc/sori-pi.toml"; then
            chown root:sori "$etc/sori-pi.toml"
            chmod 640 "$etc/sori-pi.toml"
        fi
    fi
    if [ -e "$here/genre.sori" ]; then
        install -d -o sori -g sori "$state"
        install -o sori -g sori -m 644 "$here/genre.sori" "$state/genre.sori"
    fi
    systemctl enable sori-pi
    systemctl restart --no-block sori-pi
    # After a power cut everything up to disable is repeated and nothing after it, so each step is
    # synced before the next. Files that may contain a token go first: another try works without them.
    sync
    rm -f "$here/sori-pi.toml" "$here/genre.sori"
    sync
    systemctl disable sori-install
    sync
    rm -f "$here/sori-install.sh" "$here/sori-install.service" "$units/sori-install.service" \
        "$here"/sori-pi_*.deb
    echo "$(date): installed"
    sync
}

main >>"$here/sori-install.log" 2>&1
exit
