package main

import (
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"minivmm/vmm/config"
)

// words are the settings that the flags of run make, in command line order. The flags only map to
// keys; package config interprets the values.
type words struct {
	settings []config.Setting
	entries  map[string]int // of each list so far
}

// word is one flag.
type word struct {
	name  string
	arg   string // the name of its value in the help
	key   string // in the configuration; for net and disk, the key of the list
	first string // the table's key that a value without a key sets; empty for a flag that sets a single key
	help  string
}

func newWords(flags *pflag.FlagSet) *words {
	w := &words{entries: map[string]int{}}
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
		flags.Var(flag{f.arg, func(value string) error {
			w.add(f, value)
			return nil
		}}, f.name, f.help+" (key "+f.key+")")
	}
	return w
}

func (w *words) add(f word, value string) {
	name := "--" + f.name
	switch {
	case f.first == "":
		w.settings = append(w.settings, config.Setting{Flag: name, Key: f.key, Value: value})
	case f.key == "console":
		w.settings = append(w.settings, config.Setting{Flag: name, Key: f.key, Clear: true})
		w.settings = append(w.settings, entry(name, f.key+".", f.first, value)...)
	case value == "none":
		w.settings = append(w.settings, config.Setting{Flag: name, Key: f.key, Clear: true})
	default:
		prefix := f.key + "." + strconv.Itoa(w.entries[f.key]) + "."
		w.entries[f.key]++
		w.settings = append(w.settings, entry(name+" "+strconv.Quote(value), prefix, f.first, value)...)
	}
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
	const letters = "_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	return s != "" && strings.Trim(s, letters) == ""
}

// splitCommas splits s at single commas; two commas are one literal comma.
func splitCommas(s string) []string {
	const literal = "\x00" // an argument cannot contain it
	parts := strings.Split(strings.ReplaceAll(s, ",,", literal), ",")
	for i, part := range parts {
		parts[i] = strings.ReplaceAll(part, literal, ",")
	}
	return parts
}
