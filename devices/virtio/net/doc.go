// Package net is the virtio network device (virtio 1.2 §5.1): configuration
// space plus a backend that moves the frames. [NewVhost] is the kernel's
// vhost-net over a tap; [OpenTap] makes or takes the tap.
//
// One queue pair, no control queue: receive is queue 0, transmit queue 1.
package net
