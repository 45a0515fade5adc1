// Package config is a virtual machine's configuration: the plain type [Config] that a machine is made from, and
// the one reader that fills it from a TOML file, from words given as flags, or from both.
//
// What it is: a schema (the struct tags of Config), a decoder that reports every problem of a file in one run with its
// file:line:col, and the defaults. A Config that comes out of this package is complete: every path is absolute, every
// default is filled in, every id, MAC address and serial is set and unique.
//
// What it is not: it opens no device, makes nothing, and asks the host only one question: does a named file exist, and is it of
// the right kind. Whether the host can serve the configuration is the machine's question.
//
// How positions are found. The values come from github.com/BurntSushi/toml. Its metadata holds one position per key path
// without the index of an array of tables, so the third [[disk]] overwrites the first; positions therefore come from this package's own
// scanner (scan.go), which knows where each key and value of a TOML text begins and nothing else. A fuzz target holds the two together:
// every value one of them finds, the other must find.
//
// Columns count bytes from 1, as compilers and editors do.
//
// Concurrency: functions are safe for concurrent use; a Config is plain data. There is nothing to close.
package config
