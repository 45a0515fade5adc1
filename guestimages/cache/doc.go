// Package cache keeps what is fetched or built once: a folder of entries, each made in a temporary place and moved into
// its final one by a single rename, so an entry is whole or absent.
//
// It is not a general cache: nothing expires, names are chosen by the caller and carry the version or the hash of what
// they hold. Any number of processes may use one Cache at once; a file lock (flock(2)) per entry makes the first one build
// while the others wait. What a process that died was making is removed by the next one that makes something.
package cache
