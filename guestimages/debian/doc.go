// Package debian fetches and unpacks Debian packages without installing them, and fetches source packages, through the
// machine's own apt-get, apt-cache, dpkg-deb and dpkg-source.
//
// It reads the machine's package sources but never changes them: a private copy lives in the cache with package lists of its
// own (apt.conf(5), Dir::Etc and Dir::State). So no root is needed to fetch, and signatures are checked with the machine's
// keys as always. Only Install changes the machine. Source packages come from a Suite: a named release of Debian.
//
// Which version a package name meant is written down at the first question and asked again only after Forget; so a start
// from a filled cache runs no apt at all. An Archive may be used by any number of goroutines and processes.
package debian
