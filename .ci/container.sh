#!/usr/bin/env bash
# Builds the container and tries it; where nothing can build one, its steps are run in a clean root: a fresh
# environment, an empty home, a user without rights, a bank that is read only.
#
# usage: .ci/container.sh [SITE_PACKAGES]
# SITE_PACKAGES holds the requirements already: then none is downloaded, which the container always does.
set -euo pipefail
umask 022
here=$(cd "$(dirname "$0")/.." && pwd)
root=$(mktemp -d)
trap 'chmod -R u+w "$root"; rm -rf "$root"' EXIT
chmod 755 "$root"
port=$((20000 + RANDOM % 20000))

asks() {  # what the service answers to a hum, a token and none
	python3 - "$1" "$port" <<'PY'
import json, math, struct, sys, time, urllib.error, urllib.request as u
url, token = f"http://127.0.0.1:{sys.argv[2]}", sys.argv[1]
for _ in range(600):
    try:
        u.urlopen(url + "/health", timeout=5)
        break
    except OSError:
        time.sleep(0.5)
def ask(headers):
    samples = [int(9000 * math.sin(i / 6)) for i in range(8000)]
    body = struct.pack(f"<{len(samples)}h", *samples)
    asked = u.Request(url + "/score?rate=16000", body, headers)
    return json.load(u.urlopen(asked, timeout=120))
try:
    ask({})
    sys.exit("answered without a token")
except urllib.error.HTTPError as error:
    assert error.code == 401, error
told = ask({"Authorization": f"Bearer {token}"})
assert told["decision"] == 1, told
print("served:", told["score"], ">", told["threshold"])
PY
}

if docker info >/dev/null 2>&1; then
	docker build -q -t machine-asd:try "$here"
	docker run --rm -v "$root":/out --user "$(id -u)" --entrypoint python machine-asd:try -c "$(cat <<'PY'
import numpy as np
from machine_asd import Detector
rng = np.random.default_rng(0)
Detector("logmel", scorer="min-distance").fit([rng.normal(0, .1, 8000) for _ in range(30)], rate=16000).save("/out/try.bank")
PY
	)"
	name=$(docker run -d --rm -e ASD_SERVE_TOKEN=try -p "127.0.0.1:$port:8765" -v "$root/try.bank":/banks/try.bank:ro machine-asd:try)
	trap 'docker stop -t 1 "$name" >/dev/null; rm -rf "$root"' EXIT
	asks try
	echo "the container works"
	exit 0
fi
echo "no container can be built here: its steps are run in $root"
mkdir "$root/src" "$root/state" "$root/home"
(cd "$here" && git archive HEAD) | tar x -C "$root/src"
python3 -m venv "$root/env"
if [ $# -gt 0 ]; then
	echo "$1" >"$(echo "$root"/env/lib/python3*/site-packages)/base.pth"
	"$root/env/bin/python" -m pip install --quiet --no-deps "$root/src" 2>&1 | grep -v WARNING || true
else
	"$root/env/bin/python" -m pip install --quiet -c "$root/src/constraints.txt" "$root/src[serve,watch,mqtt,s3]"
fi
rm -rf "$root/src"
cd "$root/state"
clean=(env -i PATH="$root/env/bin:/usr/bin:/bin" HOME="$root/home" ASD_HOME="$root/weights" ASD_OFFLINE=1 OMP_NUM_THREADS=2)
"${clean[@]}" python - <<PY
import numpy as np
from machine_asd import Detector
rng = np.random.default_rng(0)
Detector("logmel", scorer="min-distance").fit([rng.normal(0, .1, 8000) for _ in range(30)], rate=16000).save("$root/try.bank")
PY
chmod -R a+rX,a-w "$root/try.bank"
mkdir "$root/weights"
chmod 777 "$root/state" "$root/weights"
other=(setpriv --reuid 10001 --regid 10001 --clear-groups)
if [ "$(id -u)" != 0 ]; then
	:
elif "${other[@]}" env "$root/env/bin/python" -c 1 2>/dev/null; then
	clean=("${other[@]}" "${clean[@]}")
else
	echo "this machine's Python lies where no other user may run it: the steps go on as root"
fi
"${clean[@]}" ASD_SERVE_TOKEN=try asd serve "$root/try.bank" --host 0.0.0.0 --port "$port" &
server=$!
trap 'kill "$server" 2>/dev/null; chmod -R u+w "$root"; rm -rf "$root"' EXIT
asks try
mkdir "$root/in"
head -c 32000 /dev/urandom | "${clean[@]}" asd watch "$root/try.bank" - --rate 16000 --seconds 0.5 --state "$root/state" --alarms "$root/state/alarms.jsonl"
"${clean[@]}" asd history "$root/state" --json >/dev/null
echo "the container's steps work as uid $("${clean[@]}" id -u), with a bank that is read only"
