package config

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// DidYouMean returns `; did you mean "x"?` for the choice closest to word, or "" if none is close.
func DidYouMean(word string, choices []string) string {
	if len(word) > 40 {
		return ""
	}
	best, nearest := max(1, len(word)/3)+1, ""
	for _, c := range choices {
		if d := distance(strings.ToLower(word), c); d < best {
			best, nearest = d, c
		}
	}
	if nearest == "" {
		return ""
	}
	return "; did you mean " + strconv.Quote(nearest) + "?"
}

// distance returns the number of edits that turn the string a into the string b. An edit inserts,
// deletes or replaces one byte, or swaps two adjacent bytes.
func distance(a, b string) int {
	prev2 := make([]int, len(b)+1)
	prev := make([]int, len(b)+1)
	row := make([]int, len(b)+1)
	for j := range row {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			row[j] = min(prev[j]+1, row[j-1]+1, prev[j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], prev2[j-2]+1)
			}
		}
		prev2, prev, row = prev, row, prev2
	}
	return prev[len(b)]
}

// otherNames maps the keys of other VMMs (Firecracker, Cloud Hypervisor, crosvm, QEMU and Kata) to
// our keys.
var otherNames = map[string]string{
	"vcpu_count": "vcpus", "cpus": "vcpus", "cpu": "vcpus", "boot_vcpus": "vcpus", "smp": "vcpus",
	"mem_size_mib": "memory", "mem": "memory", "ram": "memory",
	"kernel_image_path": "kernel", "initramfs": "initrd", "initrd_path": "initrd",
	"boot_args": "cmdline", "kernel_params": "cmdline", "append": "cmdline", "params": "cmdline",
	"path_on_host": "path", "file": "path", "drive_id": "id", "iface_id": "id",
	"ro": "readonly", "read_only": "readonly", "is_read_only": "readonly",
	"cache_type": "cache", "host_dev_name": "tap", "ifname": "tap", "tap_name": "tap", "guest_mac": "mac",
	"ip": "address", "num_queues": "queues", "cpu_affinity": "affinity",
	"disks": "disk", "drive": "disk", "drives": "disk", "network": "net", "nets": "net",
	"cpu_set": "affinity", "serial_number": "serial", "payload": "boot", "worker": "workers",
}

// hint suggests the key that was probably meant by the unknown key k in the table p.
func hint(k string, p path, keys []string) string {
	lower := strings.ToLower(k)
	if slices.Contains(keys, lower) {
		return fmt.Sprintf(": keys are lower case, write %q", lower)
	}
	if ours := otherNames[lower]; slices.Contains(keys, ours) {
		return fmt.Sprintf("; did you mean %q?", ours)
	}
	if near := DidYouMean(k, keys); near != "" {
		return near
	}
	if where := home(lower, p); where != "" {
		return "; it belongs in " + where
	}
	return ""
}

// home returns the table that has the key k, or has our key for what other VMMs call k. p is the
// table that was already searched without success.
func home(k string, p path) string {
	top := reflect.TypeFor[Config]()
	for _, k := range []string{k, otherNames[k]} {
		if p != "" && slices.Contains(keysOf(top), k) {
			return "the top level, before the first table"
		}
		for i, table := range keysOf(top) {
			switch t := top.Field(i).Type; {
			case t.Kind() == reflect.Struct && slices.Contains(keysOf(t), k):
				return "[" + table + "]"
			case t.Kind() == reflect.Slice && slices.Contains(keysOf(t.Elem()), k):
				return "[[" + table + "]]"
			}
		}
	}
	return ""
}

// list quotes and joins the words: `"a"`, `"a" or "b"`, `"a", "b" or "c"`.
func list(words []string) string {
	var quoted []string
	for _, w := range words {
		quoted = append(quoted, strconv.Quote(w))
	}
	last := len(quoted) - 1
	if last < 1 {
		return strings.Join(quoted, "")
	}
	return strings.Join(quoted[:last], ", ") + " or " + quoted[last]
}
