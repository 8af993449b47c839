import type { Template } from "./template.ts";

const actEn = "If it wasn't you, set a new password at once, and tell us.";
const actRu = "Если это были не вы, сразу задайте новый пароль и сообщите нам.";

/** What tells the owner of an account what became of it. */
export const warningTemplates: Readonly<Record<string, Template>> = {
  "sign-up-again": {
    params: [],
    words: {
      en: {
        subject: "You have an account already",
        letter: [
          "Somebody, most likely you, tried to sign up with this address. There is an account with it already, so nothing was changed.",
          "Sign in with your password; if you have forgotten it, set a new one.",
        ],
        sms: "There is an account with this number already: sign in, or set a new password.",
      },
      ru: {
        subject: "У вас уже есть учётная запись",
        letter: [
          "Кто-то, скорее всего вы, попытался зарегистрироваться с этим адресом. С ним уже есть учётная запись, поэтому ничего не изменилось.",
          "Войдите со своим паролем; если вы его забыли, задайте новый.",
        ],
        sms: "С этим номером уже есть учётная запись: войдите или задайте новый пароль.",
      },
    },
  },
  "password-changed": {
    params: ["time", "device"],
    words: {
      en: {
        subject: "Your password was changed",
        letter: ["Your password was changed at {time}, from {device}. You are signed out everywhere else.", actEn],
        sms: "Your password was changed at {time}. If it wasn't you, set a new one at once.",
      },
      ru: {
        subject: "Ваш пароль изменён",
        letter: ["Ваш пароль изменён: {time}, {device}. На других устройствах вход завершён.", actRu],
        sms: "Ваш пароль изменён: {time}. Если это были не вы, сразу задайте новый.",
      },
    },
  },
  "contact-changed": {
    params: ["what", "value", "time"],
    words: {
      en: {
        subject: "The address of your account was changed",
        letter: ["The {what} of your account was changed at {time}. It is now {value}.", actEn],
        sms: "The {what} of your account is now {value}. If it wasn't you, tell us at once.",
      },
      ru: {
        subject: "Контакт вашей учётной записи изменён",
        letter: ["Контакт вашей учётной записи ({what}) изменён: {time}. Теперь это {value}.", actRu],
        sms: "Контакт вашей учётной записи ({what}) теперь {value}. Если это были не вы, сразу сообщите нам.",
      },
    },
  },
  "new-sign-in": {
    params: ["time", "device"],
    words: {
      en: {
        subject: "A new sign-in to your account",
        letter: ["Your account was signed in to at {time}, from {device}.", actEn],
        sms: "Your account was signed in to at {time}. If it wasn't you, set a new password at once.",
      },
      ru: {
        subject: "Новый вход в вашу учётную запись",
        letter: ["В вашу учётную запись вошли: {time}, {device}.", actRu],
        sms: "В вашу учётную запись вошли: {time}. Если это были не вы, сразу задайте новый пароль.",
      },
    },
  },
  "second-factor-on": {
    params: ["time", "device"],
    words: {
      en: {
        subject: "Your account has a second factor",
        letter: ["A second factor was set for your account at {time}, from {device}. Signing in asks for it from now on.", actEn],
        sms: "A second factor was set for your account at {time}.",
      },
      ru: {
        subject: "Включено подтверждение входа",
        letter: ["Для вашей учётной записи включён второй фактор: {time}, {device}. Теперь он нужен при каждом входе.", actRu],
        sms: "Для вашей учётной записи включён второй фактор: {time}.",
      },
    },
  },
  "second-factor-off": {
    params: ["time", "device"],
    words: {
      en: {
        subject: "Your account has no second factor any more",
        letter: ["The second factor of your account was taken away at {time}, from {device}.", actEn],
        sms: "The second factor of your account was taken away at {time}. If it wasn't you, set a new password at once.",
      },
      ru: {
        subject: "Подтверждение входа выключено",
        letter: ["Второй фактор вашей учётной записи выключен: {time}, {device}.", actRu],
        sms: "Второй фактор вашей учётной записи выключен: {time}. Если это были не вы, сразу задайте новый пароль.",
      },
    },
  },
  "recovery-code-used": {
    params: ["time", "device", "left"],
    words: {
      en: {
        subject: "A recovery code was used",
        letter: ["A recovery code signed in to your account at {time}, from {device}. Codes that are left: {left}.", actEn],
        sms: "A recovery code signed in to your account at {time}. If it wasn't you, set a new password at once.",
      },
      ru: {
        subject: "Использован код восстановления",
        letter: ["В вашу учётную запись вошли с кодом восстановления: {time}, {device}. Осталось кодов: {left}.", actRu],
        sms: "В вашу учётную запись вошли с кодом восстановления: {time}. Если это были не вы, сразу задайте новый пароль.",
      },
    },
  },
  "identity-linked": {
    params: ["time", "device", "provider"],
    words: {
      en: {
        subject: "Your account has another way to sign in",
        letter: ["Your account was linked to {provider} at {time}, from {device}. It may be signed in to by that from now on.", actEn],
        sms: "Your account was linked to {provider} at {time}. If it wasn't you, set a new password at once.",
      },
      ru: {
        subject: "Новый способ входа в вашу учётную запись",
        letter: ["К вашей учётной записи привязан {provider}: {time}, {device}. Теперь через него можно войти.", actRu],
        sms: "К вашей учётной записи привязан {provider}: {time}. Если это были не вы, сразу задайте новый пароль.",
      },
    },
  },
  "identity-unlinked": {
    params: ["time", "device", "provider"],
    words: {
      en: {
        subject: "Your account has one way less to sign in",
        letter: ["The link of your account to {provider} was taken away at {time}, from {device}.", actEn],
        sms: "The link of your account to {provider} was taken away at {time}. If it wasn't you, set a new password at once.",
      },
      ru: {
        subject: "Способ входа в вашу учётную запись отвязан",
        letter: ["От вашей учётной записи отвязан {provider}: {time}, {device}.", actRu],
        sms: "От вашей учётной записи отвязан {provider}: {time}. Если это были не вы, сразу задайте новый пароль.",
      },
    },
  },
  "recovery-codes-replaced": {
    params: ["time", "device"],
    words: {
      en: {
        subject: "You have new recovery codes",
        letter: ["New recovery codes took the place of your old ones at {time}, from {device}.", actEn],
        sms: "Your recovery codes were replaced at {time}. If it wasn't you, set a new password at once.",
      },
      ru: {
        subject: "У вас новые коды восстановления",
        letter: ["Ваши коды восстановления заменены новыми: {time}, {device}.", actRu],
        sms: "Ваши коды восстановления заменены: {time}. Если это были не вы, сразу задайте новый пароль.",
      },
    },
  },
  "api-key-created": {
    params: ["time", "device"],
    words: {
      en: {
        subject: "A key of your account was made",
        letter: [
          "A key by which a program acts for you was made at {time}, from {device}.",
          "If it wasn't you, revoke it, set a new password at once, and tell us: a key stays good when you sign out or change your password.",
        ],
        sms: "A key by which a program acts for you was made at {time}. If it wasn't you, revoke it and set a new password at once.",
      },
      ru: {
        subject: "Создан ключ вашей учётной записи",
        letter: [
          "Создан ключ, с которым программа действует от вашего имени: {time}, {device}.",
          "Если это были не вы, отзовите его, сразу задайте новый пароль и сообщите нам: ключ действует и после выхода или смены пароля.",
        ],
        sms: "Создан ключ, с которым программа действует от вашего имени: {time}. Если это были не вы, отзовите его и сразу задайте новый пароль.",
      },
    },
  },
  "account-deleted": {
    params: [],
    words: {
      en: {
        subject: "Your account was deleted",
        letter: ["Your account was deleted, as you asked. Thank you for the time with us."],
        sms: "Your account was deleted, as you asked.",
      },
      ru: {
        subject: "Ваша учётная запись удалена",
        letter: ["Ваша учётная запись удалена, как вы просили. Спасибо, что были с нами."],
        sms: "Ваша учётная запись удалена, как вы просили.",
      },
    },
  },
};
