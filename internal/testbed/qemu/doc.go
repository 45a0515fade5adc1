// Package qemu builds the QEMU that emulates the host. It builds the source package of one Debian
// release, whatever release this computer runs. The build supports only x86_64 guests and only
// translation (TCG), and adds one line to the source.
//
// The line fixes a bug: helper_vmrun in svm_helper.c, case SVM_EVTINJ_TYPE_INTR, sets
// cs->exception_index and delivers the interrupt itself, but never clears cs->exception_index. A
// later exit of the translation loop then delivers the interrupt a second time, even if IF is
// clear, and a guest under load dies of a double fault or hangs. The added line clears the field
// after the delivery. If the build does not find the place for the line, it fails, because tests
// must not run on a QEMU whose event injection code nobody has reviewed.
//
// The cache keeps the result under the source version and a hash of the recipe. Sources and object
// files are deleted.
package qemu
