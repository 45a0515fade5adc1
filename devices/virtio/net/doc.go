// Package net is the virtio network device (virtio 1.2 §5.1): configuration
// space plus a backend that moves the frames. [NewVhost] is the kernel's
// vhost-net over a tap; [OpenTap] makes or takes the tap.
//
// Receive is queue 0, transmit queue 1, and so on for each pair of queues. A
// device of several pairs also has a control queue (control.go), which this
// process serves: how many pairs are in use, the MAC address, which frames the
// driver wants. With one pair nothing needs control, and the guest is spared a
// queue: every frame is the guest's, and its address is its own affair.
//
// Each pair has a queue of the tap, a vhost device, and so a worker of its own.
// A pair that is not in use has its queue of the tap detached: the host does not
// send into it. Not offered: VLAN filter, RSS, announcements, changing offloads.
package net
