#!/bin/bash
# Downloads free music and speech for training, besides the labelled tracks: fetch.sh OUT
#
# Debian's archive holds hours of music and prompts under free licences, in the packages of
# games and of a telephone exchange. This leaves, 16 kHz mono, OUT/music and
# OUT/speech to train on, and OUT/held-out/speech, in languages that training never hears,
# to measure with. Needs apt-get, dpkg-deb, unzip, ffmpeg and espeak-ng; no root.
set -euo pipefail
out=$(realpath -m "${1:?give the folder to write to}")
music="wesnoth-1.16-music ufoai-music singularity-music nexuiz-music openarena-data asc-music
    hyperrogue-music warzone2100-music planetblupi-music-ogg supertuxkart-data
    neverball-data colobot-common-sounds drascula-music"
speech="asterisk-core-sounds-en-g722 asterisk-core-sounds-es-g722 asterisk-core-sounds-fr-g722
    asterisk-core-sounds-it-g722 asterisk-core-sounds-ru-g722"
mkdir -p "$out/packages" "$out/music" "$out/speech" "$out/held-out/speech"
cd "$out/packages"

for package in $music $speech; do
    [ -e "$package.done" ] && continue
    apt-get download -q "$package"
    dpkg-deb -x "$package"_*.deb "$package"
    rm "$package"_*.deb
    # Games keep their files in their own archive formats.
    find "$package" \( -name '*.pk3' -o -name '*.wz' \) -execdir unzip -qo {} \;
    touch "$package.done"
done

# Four minutes of every piece of more than half a minute.
for package in $music; do
    find "$package" \( -name '*.ogg' -o -name '*.mp3' \) -size +150k | LC_ALL=C sort | while read -r piece; do
        name="$package.$(basename "${piece%.*}" | tr -c 'A-Za-z0-9\n' _)"
        [ -e "$out/music/$name.flac" ] && continue
        seconds=$(ffprobe -v error -show_entries format=duration -of csv=p=0 "$piece" | cut -d. -f1) || continue
        [ "${seconds:-0}" -ge 30 ] || continue
        ffmpeg -nostdin -v error -y -i "$piece" -map 0:a -t 240 -ac 1 -ar 16000 -sample_fmt s16 "$out/partial.flac"
        mv "$out/partial.flac" "$out/music/$name.flac"
    done
done

# Joins the prompts of a language into files of half a minute.
for package in $speech; do
    language=$(echo "$package" | cut -d- -f4)
    folder=$out/speech
    [[ $language = it || $language = ru ]] && folder=$out/held-out/speech
    [ -e "$folder/$language.000.wav" ] && continue
    find "$package" -name '*.g722' -size +12k | LC_ALL=C sort | xargs cat |
        ffmpeg -v error -y -f g722 -i - -ac 1 -ar 16000 -sample_fmt s16 -f segment -segment_time 30 "$folder/$language.%03d.wav"
done

# Read aloud by a machine, in voices of many languages: two of them held out too.
text=$(cat /usr/share/common-licenses/{Artistic,GPL-2} | tr -s ' \n' ' ')
number=0
for voice in en-us en-gb en-us+f3 en-gb+m7 de es fr pt-br pl tr nl+f2 cs hu+m3 ko+f4 it+f2 sv; do
    folder=$out/speech
    [[ $voice = it* || $voice = sv ]] && folder=$out/held-out/speech
    for part in 0 1 2 3; do
        number=$((number + 1))
        target=$folder/espeak.$voice.$part.wav
        [ -e "$target" ] && continue
        espeak-ng -v "$voice" -s $((120 + number * 37 % 90)) -p $((20 + number * 13 % 60)) -w "$out/partial.wav" \
            "${text:$((number * 400 % 20000)):500}"
        ffmpeg -nostdin -v error -y -i "$out/partial.wav" -ac 1 -ar 16000 -sample_fmt s16 "$target"
    done
done
rm -f "$out"/partial.*
