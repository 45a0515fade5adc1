// Package qemu builds the QEMU that emulates the host. It builds the source package of one Debian
// release, regardless of the machine's own release, for x86_64 and translation (TCG) only, with one
// line added.
//
// The line fixes a bug: helper_vmrun in svm_helper.c, case SVM_EVTINJ_TYPE_INTR, sets
// cs->exception_index and delivers the interrupt itself, but never clears the index. A later exit
// of the translation loop then delivers the interrupt a second time, even if IF is clear, and a
// guest under load dies of a double fault or hangs. The added line clears the index after the
// delivery. If the place for the line is not found, the build fails: tests must not run on a QEMU
// whose event injection nobody has read.
//
// The cache keeps the result under the source version and a hash of the recipe. Sources and object
// files are deleted.
package qemu
