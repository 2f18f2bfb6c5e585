#!/bin/sh
# Installs Sori from the boot partition: sori-install.service runs this at every start until it
# has succeeded once, so that pulled power or a missing network costs another try and nothing
# else. What it says is in sori-install.log beside it, which any computer can read from the card.
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

# Completes what a cut of power left. 2 is dpkg's word for being kept from its work, by another
# that has its lock most of all: apt can wait for that, dpkg cannot.
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
    # A library may be missing that only the network has.
    if ! install_package; then
        apt-get update
        install_package
    fi
    if [ -e "$here/sori-pi.toml" ]; then
        cp "$here/sori-pi.toml" "$etc/sori-pi.toml"
        # Passwords are for nobody else.
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
    # A cut of power repeats all of it up to disable and nothing from there on, so each step is on
    # the card before the next. First what may hold a token: another try goes on without it.
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
