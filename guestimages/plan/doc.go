// Package plan holds what is said to the init of an emulated host or a guest: JSON in the initial RAM file system, and
// for the command to run optionally JSON over the channel of package wire. Types only.
package plan
