// Package net implements the virtio network device (virtio 1.2 §5.1): the configuration space, the
// control queue, and a backend that moves the frames. [NewVhost] is the backend that uses the
// kernel's vhost-net on a tap; [OpenTap] creates or opens the tap.
//
// Queue 0 is the receive queue and queue 1 the transmit queue of the first pair, and so on for the
// other pairs. A device with several pairs also has a control queue (control.go), which this
// process serves. The driver uses it to set the number of active pairs, the MAC address and the
// receive filter. A device with one pair has no control queue, so that the guest needs one queue
// less. Such a guest receives every frame and may use any MAC address.
//
// On a tap, each pair has its own tap queue and its own vhost device, and therefore its own worker.
// The tap queue of an inactive pair is detached, so the host sends no frames into it. The device
// does not offer VLAN filters, RSS, announcements, or changes of offloads at run time.
package net
