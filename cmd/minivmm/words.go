package main

import (
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"minivmm/vmm/config"
)

// words are the flags of run that set configuration values, as given on the command line. They only
// map flags to keys; package config interprets the values.
type words struct{ given []given }

type given struct {
	flag  *word
	value string
}

// word is one flag.
type word struct {
	words *words
	name  string
	arg   string // the name of its value in the help
	key   string // in the configuration; for net and disk, the key of the list
	first string // the table's key that a value without a key sets; empty for a flag that sets a single key
	help  string
}

func newWords(flags *pflag.FlagSet) *words {
	w := &words{}
	for _, f := range []word{
		{name: "name", key: "name", arg: "NAME", help: "the machine's name"},
		{name: "cpus", key: "machine.vcpus", arg: "N", help: "virtual CPUs"},
		{name: "memory", key: "machine.memory", arg: "SIZE", help: "guest memory, such as 512M"},
		{name: "image", key: "image", arg: "IMAGE", help: "an OCI image as the root file system: a path that begins with / or ./, oci:PATH, or a name in a registry"},
		{name: "kernel", key: "boot.kernel", arg: "KERNEL", help: "kernel image, or store:NAME for a kernel in minivmm's store"},
		{name: "initrd", key: "boot.initrd", arg: "PATH", help: "initial RAM disk"},
		{name: "cmdline", key: "boot.cmdline", arg: "WORDS", help: "parameters for the guest kernel's command line"},
		{name: "console", key: "console", first: "mode", arg: "MODE", help: "stdio, null, or file,path=PATH[,size=SIZE]"},
		{name: "net", key: "net", first: "backend", arg: "BACKEND[,key=value...]", help: "a network card, such as auto,address=10.0.2.1/24; none for no card"},
		{name: "disk", key: "disk", first: "path", arg: "PATH[,key=value...]", help: "a disk, such as disk.img,readonly; none for no disk"},
	} {
		f.words = w
		flags.Var(&f, f.name, f.help+" (key "+f.key+")")
	}
	return w
}

// Set, String and Type implement pflag.Value.
func (f *word) Set(value string) error {
	f.words.given = append(f.words.given, given{f, value})
	return nil
}

func (f *word) String() string { return "" }
func (f *word) Type() string   { return f.arg }

// settings returns the values given, in command line order.
func (w *words) settings() (out []config.Setting) {
	entriesOf := map[string]int{}
	for _, g := range w.given {
		flag := "--" + g.flag.name
		switch key := g.flag.key; {
		case g.flag.first == "":
			out = append(out, config.Setting{Flag: flag, Key: key, Value: g.value})
		case key == "console":
			out = append(out, config.Setting{Flag: flag, Key: key, Clear: true})
			out = append(out, entry(flag, key+".", g.flag.first, g.value)...)
		case g.value == "none":
			out = append(out, config.Setting{Flag: flag, Key: key, Clear: true})
		default:
			prefix := key + "." + strconv.Itoa(entriesOf[key]) + "."
			entriesOf[key]++
			out = append(out, entry(flag+" "+strconv.Quote(g.value), prefix, g.flag.first, g.value)...)
		}
	}
	return out
}

// entry parses VALUE[,key=value...]. A first part without a key sets the key first; a later part
// without a value switches its key on.
func entry(flag, prefix, first, value string) (out []config.Setting) {
	for i, part := range splitCommas(value) {
		key, val, ok := strings.Cut(part, "=")
		switch {
		case ok && isKey(key):
		case i == 0:
			key, val = first, part
		case !ok:
			key, val = part, "on"
		}
		out = append(out, config.Setting{Flag: flag, Key: prefix + key, Value: val})
	}
	return out
}

// isKey distinguishes key=value from a path that contains '='.
func isKey(s string) bool {
	for _, r := range s {
		if r != '_' && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') {
			return false
		}
	}
	return s != ""
}

// splitCommas splits s at single commas; two commas are one literal comma.
func splitCommas(s string) []string {
	parts := []string{""}
	for i := 0; i < len(s); i++ {
		last := &parts[len(parts)-1]
		switch {
		case s[i] != ',':
			*last += s[i : i+1]
		case strings.HasPrefix(s[i:], ",,"):
			*last += ","
			i++
		default:
			parts = append(parts, "")
		}
	}
	return parts
}
