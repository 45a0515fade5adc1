// Package target is a SCSI target in this process: direct access block devices
// over files and block devices of the host, as far as Linux, sg3-utils and boot
// loaders use them (SAM-5, SPC-4, SBC-3). It knows no transport: a [Request] is
// a command descriptor block with the buffers that came with it, a [Reply] a
// status with sense data.
//
// Data moves straight between the request's buffers and the file (preadv2,
// pwritev2). FUA and write-through are RWF_DSYNC, SYNCHRONIZE CACHE and a read
// with FUA are fdatasync, UNMAP punches holes (package diskimage's block
// devices: BLKDISCARD, where those do not read as zero). A file whose size
// changes under the target is a unit whose capacity changes. Identity and VPD
// pages follow the kernel's target (drivers/target/target_core_spc.c), vendor
// name and NAA designator included, so that a guest's names for its disks do
// not depend on who serves them. Not there: reservations, third-party copy,
// protection information.
//
// Everything in a request is hostile: the CDB is the caller's copy, other
// parameters are copied before they are checked, and no request makes the
// target do more than its buffers and the limits of VPD page B0h allow.
//
// Any number of goroutines may call [Target.Serve]. Close comes after all of
// them and closes the stores.
package target
