# Reads a seed's manifest and prints "MODE OWNER SHA256 PATH" for each file. Exits 1 when a line is not what
# docs/media-format.md says.
function damaged() { bad = 1; exit 1 }
function value(text) { sub(/^"[a-z0-9]*": "?/, "", text); sub(/"$/, "", text); return text }
NR == 1 {
    if (!/^[{]"format": 1, "host": "[a-z0-9-]+", "revision": "[0-9a-f]+", "files": \[$/) damaged()
    next
}
closed { damaged() }
/^\][}]$/ { closed = 1; next }
{
    sub(/,$/, "")
    if (!/^[{]"mode": "0[0-7][0-7][0-7]", "owner": "[0-9]+:[0-9]+", "path": "[^"\\ ]*", "sha256": "[0-9a-f]*", "size": [0-9]+[}]$/)
        damaged()
    gsub(/^[{]|[}]$/, "")
    split($0, part, /, /)
    path = value(part[3]); sum = value(part[4])
    if (path !~ /^\/etc(\/[A-Za-z0-9_@%+][A-Za-z0-9_.@%+-]*)+$/ || length(sum) != 64) damaged()
    print value(part[1]), value(part[2]), sum, path
    found++
}
END { if (bad || !found || !closed) exit 1 }
