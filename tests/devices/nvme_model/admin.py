# SPDX-License-Identifier: GPL-2.0
"""Admin commands."""

from vfio_user import Refused

from . import identity, pointers
from .queues import CompletionQueue, SubmissionQueue

DNR = 1 << 14
INVALID_OPCODE, INVALID_FIELD, INVALID_NAMESPACE = 0x001, 0x002, 0x00B
INVALID_CQ, INVALID_QID, INVALID_SIZE, INVALID_VECTOR = 0x100, 0x101, 0x102, 0x108
INVALID_LOG = 0x109

(DELETE_SQ, CREATE_SQ, GET_LOG, DELETE_CQ, CREATE_CQ, IDENTIFY, ABORT, SET_FEATURES, GET_FEATURES,
 ASYNC_EVENT) = 0x00, 0x01, 0x02, 0x04, 0x05, 0x06, 0x08, 0x09, 0x0A, 0x0C
FEATURE_CACHE, FEATURE_QUEUES, FEATURE_EVENTS = 0x06, 0x07, 0x0B
# Error, health, firmware slots, changed namespaces.
LOGS = {1, 2, 3, 4}

HELD = object()


class Failed(Exception):
    """A command fails with this status."""

    def __init__(self, status):
        super().__init__(hex(status))
        self.status = status


class Admin:
    """The admin commands of a controller."""

    def __init__(self, ctrl):
        self.ctrl = ctrl
        self.features = {FEATURE_CACHE: 1}
        self.commands = {
            DELETE_SQ: self.delete_sq,
            CREATE_SQ: self.create_sq,
            GET_LOG: self.get_log,
            DELETE_CQ: self.delete_cq,
            CREATE_CQ: self.create_cq,
            IDENTIFY: self.identify,
            # The command to be aborted is not, as the specification allows.
            ABORT: lambda command: 1,
            SET_FEATURES: self.set_features,
            GET_FEATURES: self.get_features,
            # Completes with an event, and there is none.
            ASYNC_EVENT: lambda command: HELD,
        }

    def run(self, command):
        """Runs a command to its completion."""
        try:
            function = self.commands.get(command.opcode)
            if function is None:
                raise Failed(INVALID_OPCODE)
            result = function(command)
            if result is not HELD:
                self.ctrl.finish(command, 0, result)
        except Failed as failed:
            self.ctrl.finish(command, failed.status | DNR)
        except pointers.Invalid as invalid:
            self.ctrl.fault(f"{command}: {invalid.reason}")
            self.ctrl.finish(command, invalid.status | DNR)
        except Refused:
            self.ctrl.refused(f"{command}: its memory is refused")
            self.ctrl.finish(command, pointers.TRANSFER_ERROR | DNR)

    def answer(self, command, data):
        """Writes data to the memory of a command."""
        pointers.resolve(command, len(data), self.ctrl.load)
        at = 0
        for addr, size in command.ranges:
            self.ctrl.store(addr, bytes(data[at : at + size]))
            at += size

    def create_cq(self, command):
        """Creates a completion queue."""
        qid, size = command.words[10] & 0xFFFF, (command.words[10] >> 16) + 1
        flags, vector = command.words[11] & 0xFFFF, command.words[11] >> 16
        ctrl = self.ctrl
        if not 1 <= qid <= ctrl.settings.queues or qid in ctrl.cqs:
            raise Failed(INVALID_QID)
        if not flags & 1 or command.pointer[0] % 4096:
            raise Failed(INVALID_FIELD)
        if vector >= ctrl.vectors:
            raise Failed(INVALID_VECTOR)
        if not 2 <= size <= ctrl.mqes + 1:
            raise Failed(INVALID_SIZE)
        ctrl.cqs[qid] = CompletionQueue(qid, command.pointer[0], size, vector, bool(flags & 2))
        return 0

    def create_sq(self, command):
        """Creates a submission queue."""
        qid, size = command.words[10] & 0xFFFF, (command.words[10] >> 16) + 1
        flags, cqid = command.words[11] & 0xFFFF, command.words[11] >> 16
        ctrl = self.ctrl
        if not 1 <= qid <= ctrl.settings.queues or qid in ctrl.sqs:
            raise Failed(INVALID_QID)
        if cqid == 0 or cqid not in ctrl.cqs:
            raise Failed(INVALID_CQ)
        if not flags & 1 or command.pointer[0] % 4096:
            raise Failed(INVALID_FIELD)
        if not 2 <= size <= ctrl.mqes + 1:
            raise Failed(INVALID_SIZE)
        ctrl.sqs[qid] = SubmissionQueue(qid, command.pointer[0], size, cqid)
        return 0

    def delete_sq(self, command):
        """Deletes a submission queue; its commands are aborted."""
        qid = command.words[10] & 0xFFFF
        if qid == 0 or qid not in self.ctrl.sqs:
            raise Failed(INVALID_QID)
        for other in [c for c in self.ctrl.commands.values() if c.sqid == qid]:
            # Command aborted by the deletion of its queue.
            self.ctrl.finish(other, 0x008)
        del self.ctrl.sqs[qid]
        return 0

    def delete_cq(self, command):
        """Deletes a completion queue."""
        qid = command.words[10] & 0xFFFF
        if qid == 0 or qid not in self.ctrl.cqs:
            raise Failed(INVALID_QID)
        if any(sq.cqid == qid for sq in self.ctrl.sqs.values()):
            # Invalid queue deletion.
            raise Failed(0x10C)
        del self.ctrl.cqs[qid]
        return 0

    def identify(self, command):
        """Describes the controller or a namespace."""
        cns, nsid = command.words[10] & 0xFF, command.nsid
        page = self.ctrl.settings.page(cns, nsid)
        if page is None:
            raise Failed(INVALID_FIELD)
        self.ctrl.lie.identify(cns, nsid, page)
        if (cns, nsid) == (identity.NAMESPACE, 1):
            self.ctrl.shift_told = identity.shift(page)
        self.answer(command, page)
        return 0

    def get_log(self, command):
        """Writes a log page without entries."""
        words = (command.words[10] >> 16 | (command.words[11] & 0xFFFF) << 16) + 1
        if command.words[10] & 0xFF not in LOGS:
            raise Failed(INVALID_LOG)
        if words * 4 > self.ctrl.settings.most:
            raise Failed(INVALID_FIELD)
        self.answer(command, bytes(words * 4))
        return 0

    def set_features(self, command):
        """Sets a feature; the number of queues is granted as far as there are any."""
        feature, value = command.words[10] & 0xFF, command.words[11]
        if feature == FEATURE_QUEUES:
            most = self.ctrl.settings.queues - 1
            value = min(value & 0xFFFF, most) | min(value >> 16, most) << 16
            return self.ctrl.lie.queues(value)
        if feature not in (FEATURE_CACHE, FEATURE_EVENTS):
            raise Failed(INVALID_FIELD)
        self.features[feature] = value
        return value

    def get_features(self, command):
        """Returns a feature."""
        feature = command.words[10] & 0xFF
        if feature == FEATURE_QUEUES:
            most = self.ctrl.settings.queues - 1
            return most | most << 16
        if feature not in (FEATURE_CACHE, FEATURE_EVENTS):
            raise Failed(INVALID_FIELD)
        return self.features.get(feature, 0)
