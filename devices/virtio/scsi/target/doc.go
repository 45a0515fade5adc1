// Package target is an in-process SCSI target: direct access block devices over files and block
// devices of the host, with the commands that Linux, sg3-utils and boot loaders use (SAM-5, SPC-4,
// SBC-3). It is independent of the transport: a [Request] is a command descriptor block with its
// buffers, a [Reply] a status with sense data.
//
// Data moves directly between the request's buffers and the file (preadv2, pwritev2). FUA and
// write-through use RWF_DSYNC. SYNCHRONIZE CACHE and a read with FUA use fdatasync. UNMAP punches
// holes; on a block device of package diskimage whose holes do not read as zero it uses BLKDISCARD.
// When the size of a file changes, the capacity of its unit changes. Identity and VPD pages follow
// the kernel's target (drivers/target/target_core_spc.c), including vendor name and NAA designator,
// so that a guest's names for its disks do not depend on the backend. Reservations, third-party
// copy and protection information are not supported.
//
// All contents of a request are untrusted. The CDB is the caller's copy, and the target copies
// other parameters before it checks them. The size of a request's buffers and the limits of VPD
// page B0h bound the work that the request causes.
//
// [Target.Serve] is safe for concurrent use. Close closes the stores; it must be called after the
// last Serve has returned.
package target
