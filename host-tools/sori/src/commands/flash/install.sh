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

main() {
    echo "$(date): installing"
    dpkg --configure -a
    # A library may be missing that only the network has.
    if ! install_package; then
        apt-get update
        install_package
    fi
    if [ -e "$here/sori-pi.toml" ]; then
        cp "$here/sori-pi.toml" "$etc/sori-pi.toml"
    fi
    if [ -e "$here/genre.sori" ]; then
        # The settings say where it is, but for a #.
        sed -i 's|^#\(package = "/var/lib/sori-pi/genre.sori"\)$|\1|' "$etc/sori-pi.toml"
        install -d -o sori -g sori "$state"
        install -o sori -g sori -m 644 "$here/genre.sori" "$state/genre.sori"
    fi
    systemctl enable sori-pi
    systemctl restart --no-block sori-pi
    # It may have held a token, and the space is the system's again.
    rm -f "$here"/sori-pi_*.deb "$here/sori-pi.toml" "$here/genre.sori"
    systemctl disable sori-install
    rm -f "$units/sori-install.service" "$here/sori-install.service" "$here/sori-install.sh"
    echo "$(date): installed"
    sync
}

main >>"$here/sori-install.log" 2>&1
exit
