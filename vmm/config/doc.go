// Package config reads the configuration of a virtual machine. [Config] is plain data; [Parse]
// and [Resolve] fill it from a TOML file, from the values of flags, or from both.
//
// The package consists of a schema (the struct tags of Config), a decoder, and the defaults. The
// decoder reports every problem of a file in one run, each with its file:line:col. A returned
// Config is complete: every path is absolute, every default is filled in, every id, MAC address and
// serial is set and unique.
//
// The package opens no device and creates nothing. It asks the host only whether a named file
// exists and is of the right kind. Whether the host can run the configuration is checked when the
// machine starts.
//
// # Positions
//
// The values come from github.com/BurntSushi/toml. Its metadata holds one position per key path,
// without the index in an array of tables, so the position of the third [[disk]] overwrites that of
// the first. Positions therefore come from this package's own scanner (scan.go), which only finds
// where each key and value of a TOML text begins. A fuzz target compares the scanner with the TOML
// library: each must find every value that the other finds.
//
// Columns count bytes from 1, as in compilers and editors.
//
// # Concurrency
//
// Functions are safe for concurrent use; a Config is plain data. Nothing needs to be closed.
package config
