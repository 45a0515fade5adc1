package main

import (
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"minivmm/vmm/config"
)

// words are the flags of run that give values of the configuration, as they come on the command line. They only name
// keys: the values' meaning is package config's.
type words struct{ given []given }

type given struct {
	flag  *word
	value string
}

// word is one flag.
type word struct {
	words *words
	name  string
	arg   string // what its value is called in the help
	key   string // of the configuration; for net and disk, of the list
	first string // the key in a table that a value without a key is for; empty for a flag that stands for one key
	help  string
}

func newWords(flags *pflag.FlagSet) *words {
	w := &words{}
	for _, f := range []word{
		{name: "name", key: "name", arg: "NAME", help: "the machine's name"},
		{name: "cpus", key: "machine.vcpus", arg: "N", help: "virtual CPUs"},
		{name: "memory", key: "machine.memory", arg: "SIZE", help: "guest memory, like 512M"},
		{name: "image", key: "image", arg: "IMAGE", help: "an OCI image as root: its path with / or ./ first, oci:PATH, or its name in a registry"},
		{name: "kernel", key: "boot.kernel", arg: "KERNEL", help: "kernel image, or store:NAME for one that minivmm keeps"},
		{name: "initrd", key: "boot.initrd", arg: "PATH", help: "initial RAM disk"},
		{name: "cmdline", key: "boot.cmdline", arg: "WORDS", help: "words for the kernel's command line"},
		{name: "console", key: "console", first: "mode", arg: "MODE", help: "stdio, null, or file,path=PATH[,size=SIZE]"},
		{name: "net", key: "net", first: "backend", arg: "BACKEND[,key=value...]", help: "a network card, like auto,address=10.0.2.1/24; none for no card"},
		{name: "disk", key: "disk", first: "path", arg: "PATH[,key=value...]", help: "a disk, like disk.img,readonly; none for no disk"},
	} {
		f.words = w
		flags.Var(&f, f.name, f.help+" (key "+f.key+")")
	}
	return w
}

// Set, String and Type are pflag.Value's.
func (f *word) Set(value string) error {
	f.words.given = append(f.words.given, given{f, value})
	return nil
}

func (f *word) String() string { return "" }
func (f *word) Type() string   { return f.arg }

// settings are the values that were given, in the order of the command line.
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

// entry reads VALUE[,key=value...]: a first part without a key is the value of first, a later one is a key to switch on.
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

// isKey tells key=value from a path with a '=' in it.
func isKey(s string) bool {
	for _, r := range s {
		if r != '_' && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') {
			return false
		}
	}
	return s != ""
}

// splitCommas splits at single commas; two stand for one.
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
