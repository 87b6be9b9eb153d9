#!/bin/sh
# Makes what must not lie beside the configuration: a certificate authority, the broker's certificate, passwords.
#
#   secrets.sh FOLDER [own]     own: gives each folder to the user of its service; needs root
#
# FOLDER/authority stays with whoever runs the site. What is there already is kept, so that it can run at every start; a
# certificate with less than 30 days left is made anew. Needs openssl, nothing else.
set -eu
umask 077

cd "$1"
mkdir -p authority broker bmsd grafana
curve="-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
names="DNS:mosquitto,DNS:localhost,IP:127.0.0.1${BROKER_NAMES:+,$BROKER_NAMES}"
soon=2592000

has_time() { [ -s "$1" ] && openssl x509 -in "$1" -noout -checkend "$soon" >/dev/null 2>&1; }

has_time authority/ca.pem || {
    # shellcheck disable=SC2086 # words
    openssl req -x509 $curve -days 3650 -subj "/CN=bmsd site" -keyout authority/ca.key -out authority/ca.pem \
        -addext "keyUsage=critical,keyCertSign,cRLSign" 2>/dev/null
    rm -f broker/server.pem
}
cp authority/ca.pem bmsd/ca.pem

# Also anew when the names have changed.
has_time broker/server.pem && [ "$(cat broker/names 2>/dev/null)" = "$names" ] || {
    printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth\nbasicConstraints=critical,CA:FALSE\n' "$names" >broker/extensions
    printf 'authorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\n' >>broker/extensions
    # shellcheck disable=SC2086 # words
    openssl req $curve -subj "/CN=mosquitto" -keyout broker/server.key -out broker/request.pem 2>/dev/null
    openssl x509 -req -in broker/request.pem -CA authority/ca.pem -CAkey authority/ca.key -days 730 \
        -set_serial "0x$(openssl rand -hex 16)" -extfile broker/extensions -out broker/server.pem 2>/dev/null
    rm broker/request.pem broker/extensions
    printf '%s\n' "$names" >broker/names
}

password() { [ -s "$1" ] || openssl rand -hex 24 >"$1"; }
password bmsd/mqtt.password
password authority/reader.password
password grafana/admin.password

# A line of Mosquitto's password file, as mosquitto_passwd -H sha512 writes it. The passwords are 24 random bytes:
# a slow hash would add nothing. They are never an argument, which all users of a computer can see.
hashed() {
    openssl rand -out broker/salt 12
    sum=$({ tr -d '\n' <"$2" && cat broker/salt; } | openssl dgst -sha512 -binary | openssl base64 -A)
    printf '%s:$6$%s$%s\n' "$1" "$(openssl base64 -A -in broker/salt)" "$sum"
    rm broker/salt
}
# Always made anew: it follows the passwords.
{ hashed rack-1 bmsd/mqtt.password && hashed reader authority/reader.password; } >broker/passwords.new
mv broker/passwords.new broker/passwords

if [ "${2:-}" = own ]; then
    chown -R 990:990 bmsd
    chown -R 1883:1883 broker
    chown -R 472:0 grafana
fi
