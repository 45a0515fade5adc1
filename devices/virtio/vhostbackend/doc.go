// Package vhostbackend is the Backend that is the kernel: it turns an Activation
// into vhost calls, in the order that the kernel requires, and back.
//
// The data path is the vhost worker's alone: kick and call eventfds and the
// tap never enter Go's poller. What does is each ring's error eventfd, because
// a worker that meets a bad ring stops serving it and tells nobody else.
package vhostbackend
