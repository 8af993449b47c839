import { AuthService } from "#contracts/polis/auth/v1/auth_pb.ts";
import {
  ApiKeyCreatedSchema,
  ApiKeyRevokedSchema,
  ContactChangedSchema,
  IdentityLinkedSchema,
  IdentityUnlinkedSchema,
  PasswordChangedSchema,
  RolesChangedSchema,
  SecondFactorChangedSchema,
  SessionsEndedSchema,
  SignedInSchema,
  SignInFailedSchema,
  UserBlockedSchema,
  UserDeletedSchema,
  UserRegisteredSchema,
  UserUnblockedSchema,
} from "#contracts/polis/auth/v1/events_pb.ts";
import { ForgetOverSchema, ResealSecondFactorsSchema, RotateKeysSchema } from "#contracts/polis/auth/v1/tasks_pb.ts";
import { NotificationsService } from "#contracts/polis/notifications/v1/notifications_pb.ts";
import { defineService } from "#platform/service.ts";
import { schedule } from "#platform/tasks/define-schedule.ts";
import { createApiKey } from "./api-keys/create-api-key.ts";
import { listApiKeys } from "./api-keys/list-api-keys.ts";
import { revokeApiKey } from "./api-keys/revoke-api-key.ts";
import { verifyApiKey } from "./api-keys/verify-api-key.ts";
import { derivedSecrets } from "./codes/derived-secrets.ts";
import { requestCode } from "./codes/request-code.ts";
import { unlock } from "./codes/unlock.ts";
import { forgetOver } from "./forget-over.ts";
import { getJwks } from "./keys/get-jwks.ts";
import { getOpenidConfiguration } from "./keys/get-openid-configuration.ts";
import { rotateKeys } from "./keys/rotate-keys.ts";
import { signingKeys } from "./keys/signing-keys.ts";
import { tokenNews } from "./keys/token-news.ts";
import { watchTokens } from "./keys/watch-tokens.ts";
import { sendLetter } from "./letters/send-letter.ts";
import { limits } from "./limits.ts";
import { beginLink } from "./oauth/begin-link.ts";
import { beginOauth } from "./oauth/begin-oauth.ts";
import { begunFlows, flowSecrets } from "./oauth/flow.ts";
import { linkIdentity } from "./oauth/link-identity.ts";
import { listIdentities } from "./oauth/list-identities.ts";
import { listOauthProviders } from "./oauth/list-oauth-providers.ts";
import { providers } from "./oauth/providers.ts";
import { returnFromProvider } from "./oauth/return-from-provider.ts";
import { signInWithOauth } from "./oauth/sign-in-with-oauth.ts";
import { unlinkIdentity } from "./oauth/unlink-identity.ts";
import { changePassword } from "./passwords/change-password.ts";
import { passwords } from "./passwords/passwords.ts";
import { resetPassword } from "./passwords/reset-password.ts";
import { strength } from "./passwords/strength.ts";
import { beginTotp } from "./second-factor/begin-totp.ts";
import { confirmTotp } from "./second-factor/confirm-totp.ts";
import { disableSecondFactor } from "./second-factor/disable-second-factor.ts";
import { getSecondFactor } from "./second-factor/get-second-factor.ts";
import { replaceRecoveryCodes } from "./second-factor/replace-recovery-codes.ts";
import { resealSecondFactors } from "./second-factor/reseal-second-factors.ts";
import { resetSecondFactor } from "./second-factor/reset-second-factor.ts";
import { secondFactorSecrets } from "./second-factor/second-factor-secrets.ts";
import { signInWithSecondFactor } from "./second-factor/sign-in-with-second-factor.ts";
import { verifySecondFactor } from "./second-factor/verify-second-factor.ts";
import { endSession } from "./sessions/end-session.ts";
import { listSessions } from "./sessions/list-sessions.ts";
import { refresh } from "./sessions/refresh.ts";
import { signIn } from "./sessions/sign-in.ts";
import { signInWithCode } from "./sessions/sign-in-with-code.ts";
import { signOut } from "./sessions/sign-out.ts";
import { confirmSignUp } from "./sign-up/confirm-sign-up.ts";
import { signUp } from "./sign-up/sign-up.ts";
import { blockUser } from "./users/block-user.ts";
import { changeContact } from "./users/change-contact.ts";
import { confirmContact } from "./users/confirm-contact.ts";
import { createUser } from "./users/create-user.ts";
import { deleteAccount } from "./users/delete-account.ts";
import { firstAdmins } from "./users/first-admins.ts";
import { getUser } from "./users/get-user.ts";
import { setRoles } from "./users/set-roles.ts";
import { unblockUser } from "./users/unblock-user.ts";

export const authService = defineService(AuthService, {
  folder: import.meta.dirname,
  operations: {
    signUp,
    confirmSignUp,
    signIn,
    requestCode,
    signInWithCode,
    unlock,
    refresh,
    signOut,
    listSessions,
    endSession,
    changePassword,
    resetPassword,
    createUser,
    getUser,
    setRoles,
    blockUser,
    unblockUser,
    getJwks,
    getOpenidConfiguration,
    watchTokens,
    createApiKey,
    listApiKeys,
    revokeApiKey,
    verifyApiKey,
    changeContact,
    confirmContact,
    deleteAccount,
    beginTotp,
    confirmTotp,
    signInWithSecondFactor,
    verifySecondFactor,
    replaceRecoveryCodes,
    getSecondFactor,
    disableSecondFactor,
    resetSecondFactor,
    listOauthProviders,
    beginOauth,
    returnFromProvider,
    signInWithOauth,
    beginLink,
    linkIdentity,
    listIdentities,
    unlinkIdentity,
  },
  tasks: { sendLetter, rotateKeys, forgetOver, resealSecondFactors },
  schedules: {
    rotateKeys: schedule(RotateKeysSchema, { cron: "17 * * * *", data: () => ({ olderThan: { seconds: 30n * 86_400n } }) }),
    forgetOver: schedule(ForgetOverSchema, { cron: "*/10 * * * *" }),
    resealSecondFactors: schedule(ResealSecondFactorsSchema, { cron: "*/10 * * * *" }),
  },
  keeps: [...limits, begunFlows],
  resources: [passwords, strength, derivedSecrets, secondFactorSecrets, signingKeys, tokenNews, firstAdmins, providers, flowSecrets],
  publishes: [
    ApiKeyCreatedSchema,
    ApiKeyRevokedSchema,
    ContactChangedSchema,
    UserDeletedSchema,
    UserRegisteredSchema,
    SignedInSchema,
    SignInFailedSchema,
    SessionsEndedSchema,
    PasswordChangedSchema,
    RolesChangedSchema,
    UserBlockedSchema,
    UserUnblockedSchema,
    SecondFactorChangedSchema,
    IdentityLinkedSchema,
    IdentityUnlinkedSchema,
  ],
  peers: [NotificationsService],
});
