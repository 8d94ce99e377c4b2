# Reads a seed's manifest and prints "file MODE OWNER SHA256 PATH" or "directory MODE OWNER - PATH", one per line.
# Exits 1 when a line is not what docs/media-format.md says.
function value(key, quoted, text) {
    if (!match($0, "\"" key "\": *\"[^\"\\\\]*\"")) return ""
    text = substr($0, RSTART, RLENGTH)
    sub(/^"[a-z0-9]*": *"/, "", text)
    sub(/"$/, "", text)
    return text
}
function damaged() { bad = 1; exit 1 }
NR == 1 && !/"format": *1,/ { damaged() }
/"path":/ {
    path = value("path"); mode = value("mode"); owner = value("owner"); sum = value("sha256"); type = value("type")
    if (type == "") type = "file"
    if (path !~ /^(\/[A-Za-z0-9_@%+][A-Za-z0-9_.@%+-]*)+$/) damaged()
    if (mode !~ /^0[0-7][0-7][0-7]$/ || owner !~ /^[0-9]+:[0-9]+$/) damaged()
    if (type == "directory") print "directory", mode, owner, "-", path
    else if (type == "file" && length(sum) == 64 && sum ~ /^[0-9a-f]+$/) print "file", mode, owner, sum, path
    else damaged()
    found++
}
{ last = $0 }
END { if (bad || !found || last !~ /\] *} *$/) exit 1 }
