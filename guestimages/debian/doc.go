// Package debian fetches and unpacks Debian packages without installing them, and fetches source
// packages. It uses this computer's own apt-get, apt-cache, dpkg-deb and dpkg-source.
//
// It reads this computer's package sources but never changes them: the cache holds a private copy
// with its own package lists (apt.conf(5), Dir::Etc and Dir::State). So fetching does not require
// root, and apt checks signatures with this computer's keys as usual. Only Install changes this
// computer. Source packages come from a Suite, a named release of Debian.
//
// The first query for a package name records the answer, such as a version. Later queries return
// the recorded answer until Forget discards it. A start with a filled cache therefore does not run
// apt. An Archive is safe for concurrent use by any number of goroutines and processes.
package debian
